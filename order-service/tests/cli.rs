//! The command line of order-service; it also has cargo build the program before any test that starts it.

stockloop_tests::service_command_line!(
    program: env!("CARGO_BIN_EXE_order-service"),
    defaults: include_str!("../order-service.toml"),
);
