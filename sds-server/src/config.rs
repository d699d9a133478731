//! One YAML file and the flags that win over it, composed into [`Settings`]: checked values only.
//!
//! [`File`] is what may be written, [`Flags`] what may be given on the command line, [`Environment`] what the
//! defaults depend on. Each section is the configuration of the module whose work it is. Every key stands in
//! docs/configuration.md; a test holds that. Nothing here is secret; what becomes so must print redacted.

mod attestors;
mod broker;
mod file;
mod places;
mod remote;
mod sections;
mod settings;
pub mod surroundings;

pub use attestors::Attestors;
pub use file::{File, FileError};
pub use places::Environment;
pub use sections::{Authority, Renewal, Roster};
pub use settings::{Flags, Problem, Problems, Settings};
