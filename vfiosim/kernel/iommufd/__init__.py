"""/dev/iommu and its objects (drivers/iommu/iommufd/)."""
