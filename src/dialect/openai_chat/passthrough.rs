use super::super::To;
use crate::wire::patch::Patch;
use crate::wire::scan::Members;
pub fn splice(_: &[u8], _: &Members, _: &To<'_>, _: &mut Patch) {}
