//! The operators' page as people meet it: in a real Chromium, in front of both services.

mod access;
mod bulk;
mod desk;
mod events;
mod keyboard;
mod looks;
mod mail;
mod overview;
mod scripts;
mod shop;
