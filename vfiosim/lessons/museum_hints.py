"""Hints for the rooms of the museum: where to look, what is wrong there, and what a repair can be made of."""

HINTS: dict[str, tuple[str, ...]] = {
    "mapped-into-itself": (
        "The function asks one thing about the kind of a file: is it a dma-buf? All other files go one way, whatever they are.",
        "Memory may come as a dma-buf, or as a file of memory. So the check belongs to the other files, those of the "
        "<code>else</code>, within <code>async with</code>: then the reference goes when it refuses.",
        "<code>file.f_op</code> says what kind of file it is; that of memory is <code>shmem_file_operations</code>. So, as the "
        "first line below <code>else</code>: "
        "<code>await refuse_if(file.f_op is not shmem_file_operations, Errno.EINVAL, 'memory', 'no memory')</code>",
    ),
    "failed-second-bind": (
        "Follow the VM's count through the BIND that is refused. Which function takes a VM, which one gives a VM back?",
        "A device that is open already has its VM, or none. <code>await load(device.open_count)</code> says how often it is open.",
        "Both functions have to ask: <code>if await load(device.open_count) != 0: return</code>, as the first line. In "
        "<code>vfio_df_get_kvm_safe</code> the device is <code>df.device</code>. One of the two alone is half a repair.",
    ),
    "reference-before-check": (
        "What has the function taken when <code>refuse_if</code> refuses? A failed open is never closed: who gives it back?",
        "Take it after the last check: the line with <code>get</code> goes below <code>refuse_if</code>.",
    ),
    "list-used-too-long": (
        "Which line of the function runs after <code>async with</code> has given the lock back? Who may hold the file by then?",
        "The file has to be told its VM while the lock is held: the last line moves to the end of <code>async with kv.lock:</code>",
    ),
    "last-put-under-the-lock": (
        "The last step names a lock, and who holds it. Which function has taken it, and which one wants it once more?",
        "Two repairs go together. What a group knows of its VM can have a lock of its own: <code>group.kvm_ref_lock</code>.",
        "And a list of files should go with its own file, not with the last reference to the VM: the loop of "
        "<code>kvm_put_kvm</code> belongs into <code>kvm_device_release</code>, for its one <code>device</code>.",
    ),
    "pasid-zero": (
        "VFIO and iommufd both keep a record of what is attached. Look at both after the first call: under which number?",
        "For iommufd, PASID 0 is the DMA without a PASID. For VFIO it is a PASID like any other. Refuse it.",
        "As the first line: <code>await refuse_if(pasid == 0, Errno.EINVAL, 'pasid_not_zero', 'PASID 0 is no PASID')</code>",
    ),
    "replace-that-detaches": (
        "What has happened already when the struct turns out to be read-only? What does the way out do then?",
        "An undo would need to know what was attached before. It is easier to find out, before anything is changed, whether the "
        "struct can be written.",
        "<code>await copy_to_user(argument + 8, data[8:12])</code> writes back what stands there, or fails with EFAULT. "
        "Its place is before <code>attach_and_tell</code>.",
    ),
    "release-after-free": (
        "When does the release handler of the file run, and what is freed before that?",
        "<code>fput</code> lets the handler run later, at the end of the call. <code>fput_close_sync</code> runs it at once. "
        "It belongs into <code>on_failure</code>, in the place of <code>fput</code>.",
    ),
    "return-without-unlock": (
        "Which lock is held when the first call has returned? Which line left without giving it back?",
        "What the check may leave behind: the lock, and the group that <code>vfio_device_block_group</code> has blocked. Both are "
        "undone only for what stands inside the two blocks <code>async with</code>.",
        "<code>async with device.dev_set.lock:</code> gives a lock back on every way out. <code>bind_locked</code> "
        "checks the token, too: nothing else has to stand inside.",
    ),
    "token-of-a-failed-bind": (
        "One of the checks also sets the token. What can still fail after it?",
        "What was the token before? It has to come back on a failure: <code>async with on_failure(…)</code>, around "
        "<code>bind_locked</code>.",
        "Two helpers are there. Before the call: <code>before = await token_of(device)</code>. Around it: "
        "<code>async with on_failure(put_token_back, device, before):</code>",
    ),
    "backend-switch": (
        "At the close VFIO looks at what the group has <i>now</i>, and gives that back. What had the group when the "
        "device was opened?",
        "So a container must not come while a device is open that was opened with an iommufd: EBUSY. Ask before "
        "<code>set_container</code>, within <code>async with</code>.",
        "A file is a container if <code>file.f_op is vfio_fops</code>. Two helpers ask the rest. A group that has something is "
        "refused already, with EINVAL: <code>late = file.f_op is vfio_fops and not await has_iommu(there(group)) and await "
        "a_device_is_open(there(group))</code>, then <code>await refuse_if(late, Errno.EBUSY, 'late', 'a device is open')</code>",
    ),
}

DISTRACTORS = {  # by the room: a part of what is said about a repair that is none, and what misled
    "mapped-into-itself": {
        "the iommufd must go with its last descriptor": "The program can still map the iommufd's own file, descriptor 4, into this "
        "iommufd: a shorter ring, which nobody can reach any more. The report told one case of a kind.",
    },
}
