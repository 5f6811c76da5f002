-- The sales of all channels are lines of one shape in one topic, and each channel is a job of its own: here web orders.

-- A job that is killed goes on from its last checkpoint, which it then owns and deletes after the next one.
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.claim-mode' = 'CLAIM';
SET 'parallelism.default' = '1';

-- A line of a sale, of any channel. The key names the line, so that a line that comes twice is the same line again. What is
-- cancelled stays and says so: a line that a crash left behind is then written over, whatever comes in which order. A
-- quantity below zero is a return.
CREATE TABLE sales (
  channel STRING,
  sale_id STRING,
  line_id STRING,
  customer STRING,
  sku STRING,
  quantity BIGINT,
  unit_price_minor BIGINT,
  -- In UTC to the microsecond, as the services write moments, so that it sorts as text.
  sold_at STRING,
  cancelled BOOLEAN,
  PRIMARY KEY (channel, sale_id, line_id) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'stockloop.sales.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'key.format' = 'json',
  'value.format' = 'json'
);

-- What order-service asks of the owner of the stock: placed orders and cancellations.
CREATE TABLE order_events (
  order_id STRING,
  customer STRING,
  lines ARRAY<ROW<sku STRING, quantity BIGINT>>,
  placed_at STRING,
  headers MAP<STRING, BYTES> METADATA,
  event_id AS CAST(headers['ce_id'] AS STRING),
  event_type AS CAST(headers['ce_type'] AS STRING),
  arrived AS PROCTIME()
) WITH (
  'connector' = 'kafka',
  'topic' = 'stockloop.orders.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'properties.group.id' = 'stockloop.views.sales',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

-- What product-service answers, in batches.
CREATE TABLE order_acks (
  acks ARRAY<ROW<event_id STRING, outcome STRING, consumer STRING>>
) WITH (
  'connector' = 'kafka',
  'topic' = 'stockloop.orders.acks.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'properties.group.id' = 'stockloop.views.sales',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

-- Each placed order once, however often it was sent.
CREATE TEMPORARY VIEW placed AS
SELECT order_id, event_id, customer, lines, placed_at
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY arrived) AS copy
  FROM order_events
  WHERE event_type = 'stockloop.order.placed' AND order_id IS NOT NULL
)
WHERE copy = 1;

-- The events for which the stock was taken. A REJECTED order is no sale.
CREATE TEMPORARY VIEW fulfilled AS
SELECT DISTINCT event_id
FROM order_acks CROSS JOIN UNNEST(acks) AS ack (event_id, outcome, consumer)
WHERE outcome = 'SUCCESS' AND consumer = 'product-service';

-- The orders that somebody cancelled.
CREATE TEMPORARY VIEW cancelled AS
SELECT DISTINCT order_id
FROM order_events
WHERE event_type = 'stockloop.order.cancelled';

-- The orders that are sales, and whether they were cancelled.
CREATE TEMPORARY VIEW sold AS
SELECT
  placed.order_id, placed.customer, placed.lines, placed.placed_at,
  cancelled.order_id IS NOT NULL AS is_cancelled
FROM placed
JOIN fulfilled ON fulfilled.event_id = placed.event_id
LEFT JOIN cancelled ON cancelled.order_id = placed.order_id;

-- Web orders: a sale once the stock is taken. An event names no price, so there is none.
INSERT INTO sales
SELECT 'web', order_id, line.sku, customer, line.sku, line.quantity, CAST(NULL AS BIGINT), placed_at, is_cancelled
FROM sold CROSS JOIN UNNEST(lines) AS line (sku, quantity);
