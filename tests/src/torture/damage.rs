//! Bytes on a disk that are not those that were written.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What was done to a file, so that it can be said and undone.
#[derive(Debug)]
pub(super) struct Damage {
    file: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Bytes at a place: as they were, as they are.
    Bytes { at: u64, were: Vec<u8>, are: Vec<u8> },
    /// The whole file, kept elsewhere.
    Gone { kept: PathBuf },
}

impl Damage {
    /// Flips one bit.
    pub(super) fn bit(file: &Path, dice: &mut StdRng) -> Result<Self> {
        let bit = 1 << dice.random_range(0..8);
        Self::change(file, 1, dice, |byte| byte ^ bit)
    }

    /// Makes a block read as zeros.
    pub(super) fn block(file: &Path, dice: &mut StdRng) -> Result<Self> {
        Self::change(file, 4096, dice, |_| 0)
    }

    /// Takes the file away.
    pub(super) fn gone(file: &Path) -> Result<Self> {
        let kept = file.with_extension("taken");
        // Beside the folder, so that nothing finds it there.
        let kept = file.parent().and_then(Path::parent).context("it is in a folder")?.join(kept.file_name().context("a name")?);
        fs::rename(file, &kept)?;
        Ok(Self { file: file.to_owned(), what: What::Gone { kept } })
    }

    fn change(path: &Path, length: u64, dice: &mut StdRng, change: impl Fn(u8) -> u8) -> Result<Self> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        let length = length.min(size);
        let at = dice.random_range(0..=size - length) / length * length;
        let mut were = vec![0; usize::try_from(length)?];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut were)?;
        let are: Vec<u8> = were.iter().map(|byte| change(*byte)).collect();
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&are)?;
        file.sync_all()?;
        Ok(Self { file: path.to_owned(), what: What::Bytes { at, were, are } })
    }

    /// Puts back what was there, as an operator who has a mirror does; not if the file is another by now.
    pub(super) fn undo(&self) -> Result<bool> {
        match &self.what {
            What::Gone { kept } if !self.file.exists() => {
                fs::rename(kept, &self.file)?;
                Ok(true)
            }
            What::Gone { .. } => Ok(false),
            What::Bytes { at, were, are } => {
                let Ok(mut file) = File::options().read(true).write(true).open(&self.file) else { return Ok(false) };
                let mut now = vec![0; are.len()];
                file.seek(SeekFrom::Start(*at))?;
                if file.read_exact(&mut now).is_err() || now != *are {
                    return Ok(false);
                }
                file.seek(SeekFrom::Start(*at))?;
                file.write_all(were)?;
                file.sync_all()?;
                Ok(true)
            }
        }
    }

    /// What was done, in words.
    pub(super) fn words(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        match &self.what {
            What::Gone { .. } => format!("{name} taken away"),
            What::Bytes { at, are, .. } => {
                let size = fs::metadata(&self.file).map_or(0, |data| data.len());
                format!("{} B at {at} of {size} of {name}", are.len())
            }
        }
    }
}

/// A file in `folder` with this ending that has something in it; mostly the largest, where most was written, else any.
pub(super) fn file(folder: &Path, ending: &str, dice: &mut StdRng) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let size = fs::metadata(&path)?.len();
        if path.extension().is_some_and(|extension| extension == ending) && size > 0 {
            found.push((size, path));
        }
    }
    found.sort();
    let chosen = if dice.random_ratio(3, 4) { found.last() } else { found.choose(dice) };
    Ok(chosen.map(|(_, path)| path.clone()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_was_damaged_is_put_back() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let inner = folder.path().join("log");
        fs::create_dir(&inner)?;
        let path = inner.join("1.log");
        fs::write(&path, [7; 10_000])?;
        let mut dice = StdRng::seed_from_u64(1);
        for damage in [Damage::bit, Damage::block] {
            let done = damage(&file(&inner, "log", &mut dice)?.context("there is one")?, &mut dice)?;
            assert_ne!(fs::read(&path)?, [7; 10_000], "{}", done.words());
            assert!(done.undo()?);
            assert!(!done.undo()?, "it is as it was");
            assert_eq!(fs::read(&path)?, [7; 10_000]);
        }
        let gone = Damage::gone(&path)?;
        assert!(!path.exists() && gone.undo()? && path.exists());
        Ok(())
    }
}
