// A VMM in Rust, with the standard library alone: four threads ask one device.
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;

extern "C" {
    fn ioctl(fd: i32, request: u64, ...) -> i32;
}

fn open(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn main() {
    let (device, iommufd) = (Arc::new(open("/dev/vfio/devices/vfio0")), open("/dev/iommu"));
    let mut bind = [16u32, 0, iommufd.as_raw_fd() as u32, 0];
    assert_eq!(unsafe { ioctl(device.as_raw_fd(), 0x3b76, bind.as_mut_ptr()) }, 0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let device = device.clone();
            thread::spawn(move || {
                for _ in 0..10 {
                    let mut info = [24u32, 0, 0, 0, 0, 0];
                    assert_eq!(unsafe { ioctl(device.as_raw_fd(), 0x3b6b, info.as_mut_ptr()) }, 0);
                    assert_eq!(info[2], 9);
                }
            })
        })
        .collect();
    for each in threads {
        each.join().unwrap();
    }
}
