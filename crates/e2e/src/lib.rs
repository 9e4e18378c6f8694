//! End-to-end and fault tests (`tests/it`, one module per promise) and benchmarks (`benches`), all
//! against the built services and the real parts. This library itself is empty.
