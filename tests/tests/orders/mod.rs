//! Orders through both services: in every order that a network and two processes can bring about.

mod interleavings;
mod last_items;
mod service_under_test;
mod simulation;
