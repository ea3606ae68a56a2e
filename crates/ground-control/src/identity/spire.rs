//! SPIRE's server as the registrar.
