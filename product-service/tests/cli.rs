//! The command line of product-service; it also has cargo build the program before any test that starts it.

stockloop_tests::service_command_line!(
    program: env!("CARGO_BIN_EXE_product-service"),
    defaults: include_str!("../product-service.toml"),
);
