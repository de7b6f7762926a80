//! placeholder

use super::{Dialect, Outbound, Sniffer, StreamDecoder, To, Unsayable};
use crate::ir::{Fault, FaultKind, Losses, Request, Response};
use crate::wire::json::Invalid;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;

/// This dialect's row.
pub const DIALECT: Dialect = Dialect { name: "gemini", inbound: None, outbound: &Face };

struct Face;

impl Outbound for Face {
    fn path(&self, _: &To<'_>, _: &mut String) {}
    fn encode(&self, _: &Request<'_>, _: &To<'_>, _: &mut Vec<u8>, _: &mut Losses) -> Result<(), Unsayable> {
        Ok(())
    }
    fn decode<'a>(&self, _: &'a [u8]) -> Result<Response<'a>, Invalid> {
        Ok(Response::default())
    }
    fn stream(&self) -> Box<dyn StreamDecoder> {
        unreachable!("placeholder")
    }
    fn fault(&self, _: u16, _: &[u8]) -> Fault {
        Fault::new(FaultKind::Server, "")
    }
    fn splice(&self, _: &[u8], _: &Members, _: &To<'_>, _: &mut Patch) {}
    fn sniffer(&self) -> Box<dyn Sniffer> {
        unreachable!("placeholder")
    }
}
