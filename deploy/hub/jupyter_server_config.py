"""What each student's server is told: kernels that nobody has touched for twenty minutes are ended, their files stay."""

c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.MappingKernelManager.cull_idle_timeout = 1200
c.MappingKernelManager.cull_interval = 120
