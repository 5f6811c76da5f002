//! The command line of product-service; it also has cargo build the program before any test that starts it.

stockloop_tests::service_command_line!(
    program: env!("CARGO_BIN_EXE_product-service"),
    defaults: include_str!("../product-service.toml"),
);

#[test]
fn a_copy_of_a_view_is_refused() {
    let env = [
        ("STOCKLOOP__DATABASE__URL", "sqlite:test.db"),
        ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0"),
        ("STOCKLOOP__VIEWS__PURCHASES_TOPIC", "stockloop.views.purchases.v1"),
    ];
    program().refusal(&["serve"], &env, &["views.purchases_topic", "set it for order-service"]);
}
