use std::io::Write;
use std::sync::Arc;

use actix_web::FromRequest;
use actix_web::http::header::HeaderValue;
use actix_web::test::TestRequest;
use eventlog::ByteBudget;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const COMPRESSED: [Encoding; 4] = [
    Encoding::Gzip,
    Encoding::Deflate,
    Encoding::Brotli,
    Encoding::Zstd,
];

fn compress(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Gzip => {
            let mut out = GzEncoder::new(Vec::new(), Compression::best());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Encoding::Brotli => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22)
                .write_all(plain)
                .unwrap();
            out
        }
        Encoding::Zstd => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

#[test]
fn every_encoding_decompresses_up_to_the_limit_and_not_beyond() {
    for encoding in COMPRESSED {
        for plain in [
            Vec::new(),
            b"{}".to_vec(),
            noise(100_000),
            vec![b' '; 100_000],
        ] {
            let compressed = compress(encoding, &plain);
            assert_eq!(
                decompress(encoding, &compressed, plain.len()).as_ref(),
                Ok(&plain),
                "{encoding:?} {}",
                plain.len()
            );
            if let Some(limit) = plain.len().checked_sub(1) {
                assert_eq!(
                    decompress(encoding, &compressed, limit),
                    Err(BodyError::TooLarge { limit }),
                    "{encoding:?} {}",
                    plain.len()
                );
            }
        }
    }
}

#[test]
fn a_bomb_is_refused() {
    for encoding in COMPRESSED {
        let bomb = compress(encoding, &vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000, "{encoding:?}");
        let limit = 1 << 20;
        assert_eq!(
            decompress(encoding, &bomb, limit),
            Err(BodyError::TooLarge { limit })
        );
    }
}

#[test]
fn what_is_cut_or_damaged_is_refused() {
    for encoding in COMPRESSED {
        let compressed = compress(encoding, &noise(10_000));
        for cut in [0, 1, 5, compressed.len() / 2, compressed.len() - 1] {
            assert!(
                matches!(
                    decompress(encoding, &compressed[..cut], 1 << 20),
                    Err(BodyError::Corrupt(_))
                ),
                "{encoding:?} cut at {cut}"
            );
        }
        assert!(
            matches!(
                decompress(encoding, b"{\"event_type\":\"a\"}", 1 << 20),
                Err(BodyError::Corrupt(_))
            ),
            "{encoding:?}"
        );
    }
}

#[test]
fn deflate_may_be_raw() {
    let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
    out.write_all(b"{\"a\":1}").unwrap();
    let compressed = out.finish().unwrap();
    assert_eq!(
        decompress(Encoding::Deflate, &compressed, 100).unwrap(),
        b"{\"a\":1}"
    );
}

#[test]
fn zstd_frames_may_follow_each_other_and_lie_about_their_size() {
    let mut compressed = zstd::encode_all(&b"{\"a\":"[..], 3).unwrap();
    compressed.extend(zstd::encode_all(&b"1}"[..], 3).unwrap());
    assert_eq!(
        decompress(Encoding::Zstd, &compressed, 100).unwrap(),
        b"{\"a\":1}"
    );

    // A single-segment frame whose header claims 2^40 bytes.
    let mut liar = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0];
    liar.extend((1_u64 << 40).to_le_bytes());
    liar.extend([0x01, 0x00, 0x00]);
    assert!(matches!(
        decompress(Encoding::Zstd, &liar, 100),
        Err(BodyError::Corrupt(_) | BodyError::TooLarge { .. })
    ));
}

#[test]
fn a_large_brotli_window_is_refused() {
    assert_eq!(
        decompress(Encoding::Brotli, &[0x11, 0x1E, 0, 0, 0], 100),
        Err(BodyError::Corrupt("br"))
    );
}

#[test]
fn encodings_are_named() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
        Encoding::of(&headers)
    };
    assert_eq!(of("GZIP"), Ok(Encoding::Gzip));
    assert_eq!(of("identity"), Ok(Encoding::Identity));
    assert!(matches!(of("gzip, br"), Err(BodyError::UnknownEncoding(_))));
    assert!(matches!(of("lzma"), Err(BodyError::UnknownEncoding(_))));
}

async fn read_body(
    body: Vec<u8>,
    encoding: Option<&str>,
    max_bytes: usize,
    budget: &Arc<ByteBudget>,
) -> Result<Bytes, BodyError> {
    let mut request = TestRequest::post().set_payload(body);
    if let Some(encoding) = encoding {
        request = request.insert_header((CONTENT_ENCODING, encoding));
    }
    let (request, mut payload) = request.to_http_parts();
    let payload = Payload::from_request(&request, &mut payload).await.unwrap();
    let bounds = Bounds {
        max_bytes,
        timeout: Duration::from_secs(30),
    };
    let mut permit = budget.acquire(0).unwrap();
    read(request.headers(), payload, bounds, &mut permit).await
}

#[actix_web::test]
async fn a_body_is_read_within_its_bounds() {
    let budget = ByteBudget::new(1 << 20);
    let plain = noise(5000);
    assert_eq!(
        read_body(plain.clone(), None, 5000, &budget).await.unwrap(),
        plain
    );
    assert_eq!(
        read_body(plain.clone(), None, 4999, &budget).await,
        Err(BodyError::TooLarge { limit: 4999 })
    );
    let compressed = compress(Encoding::Gzip, &plain);
    assert_eq!(
        read_body(compressed, Some("gzip"), 8000, &budget)
            .await
            .unwrap(),
        plain
    );
    assert_eq!(
        read_body(plain.clone(), None, 5000, &ByteBudget::new(4000)).await,
        Err(BodyError::Overloaded(BudgetExhausted))
    );
    assert_eq!(budget.used(), 0);
}
