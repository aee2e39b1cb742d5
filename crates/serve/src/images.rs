//! What may come as an input image, told by its first bytes: formats that the worker reads itself. Anything else could be a playlist
//! that makes ffmpeg open files and addresses.

/// The ending for a file of these bytes, if they are an image that is read without another program.
pub(crate) fn ending(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playlists_and_scripts_are_no_images() {
        assert_eq!(ending(b"\x89PNG\r\n\x1a\n...."), Some("png"));
        assert_eq!(ending(b"RIFF\x10\0\0\0WEBPVP8 "), Some("webp"));
        for bytes in [&b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd"[..], b"ffconcat version 1.0", b"<svg>", b"", b"RIFF\x10\0\0\0AVI ", b"P6"]
        {
            assert_eq!(ending(bytes), None, "{bytes:?}");
        }
    }
}
