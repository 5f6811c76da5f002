//! Orders through both services: in every order that a network and two processes can bring about.

mod interleavings;
mod side;
mod world;
