//! Reads Protobuf's wire format: keys, varints, fixed numbers and length-delimited bytes.
//!
//! Accepts nothing that prost would refuse, so that a message which passes here also decodes. Not
//! here: what a field means.

use crate::grpc::schema::{Kind, Value};

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: u32 = 10;

/// Why bytes cannot be read.
pub(super) type Malformed = &'static str;

const TRUNCATED: Malformed = "they end in the middle of a field";
const BAD_VARINT: Malformed = "a number is longer than 64 bits";
const BAD_KEY: Malformed = "a field has an impossible number or wire type";
const WRONG_TYPE: Malformed = "a field has another wire type than its declaration";
const NOT_UTF8: Malformed = "a string is not UTF-8";

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Length,
    Fixed32,
}

/// The bytes that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The number and wire type of the next field. Groups, which proto3 does not have, are refused.
    pub(super) fn key(&mut self) -> Result<(u32, Wire), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| BAD_KEY)?;
        let wire = match key & 0b111 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Length,
            5 => Wire::Fixed32,
            _ => return Err(BAD_KEY),
        };
        match key >> 3 {
            0 => Err(BAD_KEY),
            number => Ok((number, wire)),
        }
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, wire: Wire) -> Result<(), Malformed> {
        match wire {
            Wire::Varint => self.varint().map(|_| ()),
            Wire::Fixed64 => self.take(8).map(|_| ()),
            Wire::Length => self.length_delimited().map(|_| ()),
            Wire::Fixed32 => self.take(4).map(|_| ()),
        }
    }

    /// The next value, which must be written as its kind is.
    pub(super) fn value(&mut self, kind: Kind, wire: Wire) -> Result<Value<'a>, Malformed> {
        if wire != kind.wire() {
            return Err(WRONG_TYPE);
        }
        Ok(match kind {
            Kind::Bool => Value::Number(i64::from(self.varint()? != 0)),
            Kind::Int32 | Kind::Enum => Value::Number(i64::from(low_half(self.varint()?))),
            Kind::Sint32 => Value::Number(unzigzag(self.varint()? & u64::from(u32::MAX))),
            Kind::Uint32 => Value::Number((self.varint()? & u64::from(u32::MAX)).cast_signed()),
            Kind::Int64 | Kind::Uint64 => Value::Number(self.varint()?.cast_signed()),
            Kind::Sint64 => Value::Number(unzigzag(self.varint()?)),
            Kind::Fixed32 => Value::Number(i64::from(u32::from_le_bytes(self.array()?))),
            Kind::Fixed64 => Value::Number(i64::from_le_bytes(self.array()?)),
            Kind::String => {
                let bytes = self.length_delimited()?;
                Value::Text(std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?)
            }
            Kind::Bytes | Kind::Message(_) => Value::Bytes(self.length_delimited()?),
        })
    }

    pub(super) fn length_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
        self.take(length)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.0.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for position in 0..VARINT_BYTES_MAX {
            let (byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
            self.0 = rest;
            let is_last = position == VARINT_BYTES_MAX.saturating_sub(1);
            if is_last && *byte > 1 {
                return Err(BAD_VARINT);
            }
            let bits = u64::from(*byte & 0x7f);
            value |= bits.checked_shl(position.saturating_mul(7)).unwrap_or(0);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BAD_VARINT)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*taken)
    }
}

impl Kind {
    /// How a value of this kind is written.
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Int64
            | Self::Sint32
            | Self::Sint64
            | Self::Uint32
            | Self::Uint64
            | Self::Enum => Wire::Varint,
            Self::Fixed32 => Wire::Fixed32,
            Self::Fixed64 => Wire::Fixed64,
            Self::String | Self::Bytes | Self::Message(_) => Wire::Length,
        }
    }
}

/// What prost makes of a varint in a 32-bit field.
fn low_half(value: u64) -> i32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0).cast_signed()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}
