//! Reads messages as Protocol Buffers do, and refuses what they would pass over.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// Messages whose fields are all known, in the order of their tags, none written that holds its default.
pub(super) struct StrictCodec<Res, Req>(PhantomData<(Res, Req)>);

impl<Res, Req> StrictCodec<Res, Req> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Res, Req> Codec for StrictCodec<Res, Req>
where
    Res: Message + Send + 'static,
    Req: Message + Default + Send + 'static,
{
    type Encode = Res;
    type Decode = Req;
    type Encoder = <ProstCodec<Res, Req> as Codec>::Encoder;
    type Decoder = StrictDecoder<Req>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Res, Req>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

pub(super) struct StrictDecoder<Req>(PhantomData<Req>);

impl<Req: Message + Default> Decoder for StrictDecoder<Req> {
    type Item = Req;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Req>, Status> {
        let bytes = source.copy_to_bytes(source.remaining());
        let message = Req::decode(bytes.clone())
            .map_err(|error| Status::invalid_argument(format!("no message: {error}")))?;
        if message.encode_to_vec() != bytes {
            return Err(Status::invalid_argument(
                "the message holds a field that the stand-in does not know",
            ));
        }
        Ok(Some(message))
    }
}
