//! The operators' side of a service: who they are, their API and their pages.

pub mod access;
pub mod api;
pub mod pages;
#[cfg(test)]
mod tests;
