//! The topics of the views that deploy/flink keeps, and of the till. No service owns them: `stockloop topics` makes them.

/// What a till sells, a message per line.
pub const TILL: &str = "till.sales.v1";

/// Lines of the till that make no sense.
pub const DEAD: &str = "till.sales.dead.v1";

/// The sales of all channels in one shape.
pub const SALES: &str = "stockloop.sales.v1";

/// The value of each product's stock.
pub const STOCK_VALUE: &str = "stockloop.views.stock_value.v1";

/// The last purchases of each customer.
pub const PURCHASES: &str = "stockloop.views.purchases.v1";

/// Those of which each message counts: they keep all for as long as a reader may be away.
pub const FEEDS: [&str; 2] = [TILL, DEAD];

/// Those that say how something is: they keep the last message of each key for good.
pub const TABLES: [&str; 3] = [SALES, STOCK_VALUE, PURCHASES];
