//! x
pub mod codec { pub type StrictCodec<A,B> = tonic_prost::ProstCodec<A,B>; }
