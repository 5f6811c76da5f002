//! The operators' page as people meet it: in a real Chromium, in front of both services.

mod access;
mod appearance;
mod bulk;
mod events;
mod fixture;
mod keyboard;
mod mail;
mod overview;
mod populated_shop;
mod without_scripts;
