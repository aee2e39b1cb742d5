//! The alpha channel of still AVIF, which ffmpeg drops: it is a picture of its own in the same file (ISO/IEC 23008-12 §6.6.2.1.1).

/// Whether a file begins as one of the family of image files that AVIF belongs to.
pub(crate) fn is_image_file(start: &[u8]) -> bool {
    start.get(4..8) == Some(b"ftyp") && matches!(start.get(8..12), Some(b"avif" | b"avis" | b"mif1" | b"heic"))
}

/// The file with its alpha channel in the place of its picture; `None` without one.
pub(crate) fn alpha_as_picture(file: &[u8]) -> Option<Vec<u8>> {
    let meta = child(file, 0..file.len(), b"meta")?;
    // Version and flags come before the boxes inside.
    let inside = meta.start + 4..meta.end;
    let primary = child(file, inside.clone(), b"pitm")?;
    let references = child(file, inside, b"iref")?;
    let narrow = |at: usize| file.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    // Version 0 of both has numbers of 16 bits, which is what small files have.
    if file.get(primary.start) != Some(&0) || file.get(references.start) != Some(&0) {
        return None;
    }
    let picture = narrow(primary.start + 4)?;
    let mut at = references.start + 4;
    while let Some(reference) = part(file, at..references.end) {
        // From, how many, to.
        if &file[at + 4..at + 8] == b"auxl" && narrow(reference.start + 2)? > 0 && narrow(reference.start + 4)? == picture {
            let mut changed = file.to_vec();
            changed.get_mut(primary.start + 4..primary.start + 6)?.copy_from_slice(&file[reference.start..reference.start + 2]);
            return Some(changed);
        }
        at = reference.end;
    }
    None
}

/// Where the content of the first box of a kind lies within `range`.
fn child(file: &[u8], range: std::ops::Range<usize>, kind: &[u8; 4]) -> Option<std::ops::Range<usize>> {
    let mut at = range.start;
    loop {
        let content = part(file, at..range.end)?;
        if &file[at + 4..at + 8] == kind {
            return Some(content);
        }
        at = content.end;
    }
}

/// Where the content of the box at the start of `range` lies.
fn part(file: &[u8], range: std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    let length = file.get(range.start..range.start + 4)?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let end = range.start.checked_add(length)?;
    (length >= 8 && end <= range.end.min(file.len())).then_some(range.start + 8..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alpha_channel_is_found_and_damage_is_no_panic() {
        let file = include_bytes!("../tests/data/transparent_half.avif");
        let alpha = alpha_as_picture(file).unwrap_or_default();
        assert_eq!(alpha.iter().zip(file).filter(|(a, b)| a != b).count(), 1, "one number is another");
        assert!(is_image_file(file) && !is_image_file(b"GIF89a"));
        assert!(alpha_as_picture(&alpha).is_none(), "nothing is behind the alpha channel");
        for cut in 0..file.len() {
            let _ = alpha_as_picture(&file[..cut]);
        }
        for at in 0..file.len() {
            for value in [0, 1, 127, 255] {
                let mut damaged = file.to_vec();
                damaged[at] = value;
                let _ = alpha_as_picture(&damaged);
            }
        }
    }
}
