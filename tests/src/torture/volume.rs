//! A small file system for each node, on a file: one that fills up, stands still, fails, or can only be read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::site::system;

/// Room for a node: enough for a round, soon full.
const MEBIBYTES: u64 = 224;

/// What takes the room.
const FILLER: &str = "filler";

/// A mounted file system.
#[derive(Debug)]
pub(super) struct Volume {
    image: PathBuf,
    at: PathBuf,
    frozen: bool,
}

impl Volume {
    /// Makes one and mounts it.
    pub(super) fn make(folder: &Path, node: usize) -> Result<Self> {
        let volume = Self { image: folder.join(format!("v{node}.img")), at: folder.join(format!("v{node}")), frozen: false };
        File::create(&volume.image)?.set_len(MEBIBYTES << 20)?;
        std::fs::create_dir_all(&volume.at)?;
        system(&format!("mkfs.ext4 -q -m 0 -F {}", volume.image.display()))?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    fn mount(&self) -> Result<()> {
        system(&format!("mount -o loop {} {}", self.image.display(), self.at.display()))
    }

    /// Takes all the room there is.
    pub(super) fn fill(&self) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.at.join(FILLER))?;
        // Large pieces first: the end is reached soon, and then to the last byte.
        for piece in [vec![0; 1 << 20], vec![0; 4 << 10], vec![0; 64]] {
            while filler.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.at.join(FILLER))?)
    }

    /// Writes and syncs wait from now on.
    pub(super) fn freeze(&mut self) -> Result<()> {
        system(&format!("fsfreeze -f {}", self.at.display()))?;
        self.frozen = true;
        Ok(())
    }

    /// They go on.
    pub(super) fn thaw(&mut self) -> Result<()> {
        if std::mem::take(&mut self.frozen) {
            system(&format!("fsfreeze -u {}", self.at.display()))?;
        }
        Ok(())
    }

    /// Every write fails from now on, as after an error of the device.
    pub(super) fn fail(&self) -> Result<()> {
        system(&format!("mount -o remount,abort {}", self.at.display()))
    }

    /// It can be read and not written; nobody may have a file open.
    pub(super) fn read_only(&self) -> Result<()> {
        system(&format!("mount -o remount,ro {}", self.at.display()))
    }

    /// Mounts it again; nobody may have a file open.
    pub(super) fn again(&self) -> Result<()> {
        system(&format!("umount {}", self.at.display()))?;
        self.mount()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // At the end of a round, or of the process, which takes its mounts with it.
        let _ = self.thaw();
        let _ = system(&format!("umount {}", self.at.display()));
    }
}
