//! Parses server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::time::Duration;

/// One block of an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Block {
    /// The name; empty where there is none.
    pub(super) event: String,
    /// The lines of data; `None` where there are none.
    pub(super) data: Option<String>,
}

/// A parser that takes bytes and returns blocks.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    block: Block,
    after_return: bool,
    /// The last id, which a reconnection sends.
    pub(super) last_id: Option<String>,
    /// How long to wait before a reconnection, once the stream has set it.
    pub(super) retry: Option<Duration>,
}

impl Reader {
    /// Parses received bytes; returns the blocks that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => blocks.extend(self.end_of_line()),
                byte => self.line.push(byte),
            }
        }
        blocks
    }

    /// Drops an incomplete block, after the connection broke.
    pub(super) fn reset(&mut self) {
        self.line.clear();
        self.block = Block::default();
        self.after_return = false;
    }

    fn end_of_line(&mut self) -> Option<Block> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            return block.data.is_some().then_some(block);
        }
        let line = String::from_utf8_lossy(&line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.block.event = value.to_owned(),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "retry" => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_parsed_from_pieces_of_any_size() {
        let text = ": hello\nretry: 1500\n\nid: 1-0\n\nevent: a.b\nid: 2-0\ndata: x\ndata:y\n\r\n";
        for size in 1..text.len() {
            let mut reader = Reader::default();
            let blocks: Vec<Block> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| reader.feed(piece))
                .collect();
            let expected = Block {
                event: "a.b".to_owned(),
                data: Some("x\ny".to_owned()),
            };
            assert_eq!(blocks, [expected], "pieces of {size}");
            assert_eq!(reader.last_id.as_deref(), Some("2-0"));
            assert_eq!(reader.retry, Some(Duration::from_millis(1500)));
        }
    }

    #[test]
    fn an_incomplete_block_is_dropped_with_its_connection() {
        let mut reader = Reader::default();
        assert!(reader.feed(b"data: lost\nda").is_empty());
        reader.reset();
        let blocks = reader.feed(b"data: kept\n\n");
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].data.as_deref(), Some("kept"));
    }
}
