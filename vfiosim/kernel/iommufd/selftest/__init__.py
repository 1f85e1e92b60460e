"""The test device of iommufd: mock devices, a mock IOMMU and accesses of a test (drivers/iommu/iommufd/selftest.c, v7.2)."""
