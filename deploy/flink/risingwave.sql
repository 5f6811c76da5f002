-- NOT RUN here: the same tables and views in RisingWave's dialect, as its documentation has it. What each is, and why, is
-- said in inventory.sql, sales.sql and purchases.sql. What stands in ${…} has to be replaced.

-- The inventory --------------------------------------------------------------------------------------------------------

CREATE SOURCE inventory_events (
  sku varchar, description varchar, quantity bigint, unit_price_minor bigint, removed boolean, version bigint,
  updated_at varchar
)
INCLUDE header 'stockloopepoch' varchar AS epoch
WITH (
  connector = 'kafka', topic = 'stockloop.inventory.v1', properties.bootstrap.server = '${BROKERS}',
  scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

-- The newest state of each product, by (epoch, version).
CREATE MATERIALIZED VIEW newest AS
SELECT * FROM (
  SELECT
    sku, description, quantity, unit_price_minor, removed, epoch::bigint AS epoch, version, updated_at,
    row_number() OVER (PARTITION BY sku ORDER BY epoch::bigint DESC, version DESC) AS place
  FROM inventory_events
  WHERE sku IS NOT NULL AND epoch::bigint IS NOT NULL AND version IS NOT NULL
) AS states
WHERE place = 1;

-- The value of each product's stock: a table to ask, and a topic.
CREATE MATERIALIZED VIEW stock_value AS
SELECT
  sku, description, quantity, unit_price_minor, quantity::numeric * unit_price_minor AS value_minor, epoch, version,
  updated_at
FROM newest
WHERE removed IS NOT TRUE;

CREATE SINK stock_value_topic FROM stock_value
WITH (
  connector = 'kafka', topic = 'stockloop.views.stock_value.v1', properties.bootstrap.server = '${BROKERS}',
  primary_key = 'sku'
) FORMAT UPSERT ENCODE JSON KEY ENCODE TEXT;

-- The sales ------------------------------------------------------------------------------------------------------------

-- A line of a sale, of any channel. A line that comes twice has the same key.
CREATE TABLE sales (
  channel varchar, sale_id varchar, line_id varchar, customer varchar, sku varchar, quantity bigint,
  unit_price_minor bigint, sold_at varchar, cancelled boolean,
  PRIMARY KEY (channel, sale_id, line_id)
);

CREATE SINK sales_topic FROM sales
WITH (
  connector = 'kafka', topic = 'stockloop.sales.v1', properties.bootstrap.server = '${BROKERS}',
  primary_key = 'channel,sale_id,line_id'
) FORMAT UPSERT ENCODE JSON;

CREATE SOURCE order_events (
  order_id varchar, customer varchar, lines struct<sku varchar, quantity bigint>[], placed_at varchar
)
INCLUDE header 'ce_id' varchar AS event_id
INCLUDE header 'ce_type' varchar AS event_type
WITH (
  connector = 'kafka', topic = 'stockloop.orders.v1', properties.bootstrap.server = '${BROKERS}',
  scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

CREATE SOURCE order_acks (acks struct<event_id varchar, outcome varchar, consumer varchar>[])
WITH (
  connector = 'kafka', topic = 'stockloop.orders.acks.v1', properties.bootstrap.server = '${BROKERS}',
  scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

-- Each line of a placed order once.
CREATE MATERIALIZED VIEW placed AS
SELECT DISTINCT order_id, event_id, customer, placed_at, (line).sku AS sku, (line).quantity AS quantity
FROM (
  SELECT order_id, event_id, customer, placed_at, unnest(lines) AS line
  FROM order_events
  WHERE event_type = 'stockloop.order.placed'
) AS lines;

-- The events for which the stock was taken.
CREATE MATERIALIZED VIEW fulfilled AS
SELECT DISTINCT (ack).event_id AS event_id
FROM (SELECT unnest(acks) AS ack FROM order_acks) AS answers
WHERE (ack).outcome = 'SUCCESS' AND (ack).consumer = 'product-service';

-- The orders that somebody cancelled.
CREATE MATERIALIZED VIEW cancelled AS
SELECT DISTINCT order_id FROM order_events WHERE event_type = 'stockloop.order.cancelled';

-- Web orders: a sale once the stock is taken.
CREATE SINK web_sales INTO sales AS
SELECT
  'web' AS channel, order_id AS sale_id, sku AS line_id, customer, sku, quantity, NULL::bigint AS unit_price_minor,
  placed_at AS sold_at, cancelled.order_id IS NOT NULL AS cancelled
FROM placed
JOIN fulfilled USING (event_id)
LEFT JOIN cancelled USING (order_id);

CREATE SOURCE till_lines (line bytea)
INCLUDE key AS message_key
INCLUDE partition AS source_partition
INCLUDE offset AS source_offset
WITH (
  connector = 'kafka', topic = 'till.sales.v1', properties.bootstrap.server = '${BROKERS}',
  scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE BYTES;

-- The till's columns, each as text. An expression that fails in a stream gives null.
CREATE MATERIALIZED VIEW till_columns AS
SELECT
  source_partition, source_offset, message_key, line,
  trim(value ->> 'Invoice') AS invoice, trim(value ->> 'StockCode') AS stock_code, trim(value ->> 'Quantity') AS quantity,
  trim(value ->> 'InvoiceDate') AS invoice_date, trim(value ->> 'Price') AS price,
  nullif(regexp_replace(trim(value ->> 'Customer ID'), '[.]0$', ''), '') AS customer,
  jsonb_typeof(value) AS kind
FROM (
  SELECT
    source_partition, source_offset, convert_from(message_key, 'UTF8') AS message_key, convert_from(line, 'UTF8') AS line,
    convert_from(line, 'UTF8')::jsonb AS value
  FROM till_lines
) AS texts;

-- The same as values, with the first reason why a line makes no sense.
CREATE MATERIALIZED VIEW till AS
SELECT
  *,
  CASE
    WHEN kind IS NULL OR kind <> 'object' THEN 'it is not a JSON object'
    WHEN invoice IS NULL OR invoice = '' THEN 'Invoice is missing'
    WHEN stock_code IS NULL OR stock_code = '' THEN 'StockCode is missing'
    WHEN stock_code !~ '^[^[:cntrl:]]{1,64}$' THEN 'StockCode is longer than 64 characters or holds control characters'
    WHEN pieces IS NULL THEN 'Quantity is not a whole number below a billion'
    WHEN pieces = 0 THEN 'Quantity is 0'
    WHEN sold_at IS NULL THEN 'InvoiceDate is not a time like 1/12/2010 8:26'
    WHEN price ~ '^-' THEN 'Price is below zero'
    WHEN unit_price_minor IS NULL THEN 'Price is not an amount like 2.55'
  END AS reason
FROM (
  SELECT
    *,
    CASE WHEN quantity ~ '^[+-]?[0-9]{1,9}$' THEN quantity::bigint END AS pieces,
    CASE
      WHEN invoice_date ~ '^[0-9]{1,2}/[0-9]{1,2}/[0-9]{4} ([01]?[0-9]|2[0-3]):[0-5][0-9]$'
      THEN to_timestamp(invoice_date, 'DD/MM/YYYY HH24:MI')
    END AS sold_at,
    CASE WHEN price ~ '^[0-9]{1,12}([.][0-9]{1,2}0*)?$' THEN (price::numeric * 100)::bigint END AS unit_price_minor
  FROM till_columns
) AS values_of_till;

-- The till's lines.
CREATE SINK till_sales INTO sales AS
SELECT
  'till' AS channel, invoice AS sale_id, md5(coalesce(message_key, '') || ' ' || line) AS line_id, customer,
  stock_code AS sku, pieces AS quantity, unit_price_minor,
  to_char(sold_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS sold_at, FALSE AS cancelled
FROM till
WHERE reason IS NULL;

-- The till's lines that make no sense.
CREATE SINK till_dead AS
SELECT source_partition AS "partition", source_offset AS "offset", reason, message_key, line
FROM till
WHERE reason IS NOT NULL
WITH (
  connector = 'kafka', topic = 'till.sales.dead.v1', properties.bootstrap.server = '${BROKERS}',
  primary_key = 'partition,offset'
) FORMAT UPSERT ENCODE JSON;

-- The last five purchases ----------------------------------------------------------------------------------------------

-- A purchase: an order or an invoice with its lines.
CREATE MATERIALIZED VIEW purchase AS
SELECT
  customer, channel, sale_id, max(sold_at) AS sold_at, sum(quantity) AS pieces,
  CASE WHEN count(unit_price_minor) = count(*) THEN sum(quantity * unit_price_minor) END AS total_minor,
  jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'unit_price_minor', unit_price_minor) ORDER BY sku, line_id)
    AS lines
FROM sales
WHERE customer IS NOT NULL AND sold_at IS NOT NULL AND quantity > 0 AND NOT cancelled
GROUP BY customer, channel, sale_id;

-- The last five of each customer.
CREATE MATERIALIZED VIEW last_five AS
SELECT customer, channel, sale_id, sold_at, pieces, total_minor, lines
FROM (
  SELECT *, row_number() OVER (PARTITION BY customer ORDER BY sold_at DESC, channel DESC, sale_id DESC) AS place
  FROM purchase
) AS placed_purchases
WHERE place <= 5;

-- One row per customer: a view to ask, and a topic. The version counts what happened to the customer's lines.
CREATE MATERIALIZED VIEW purchases AS
SELECT
  customer, sum(step) AS version,
  coalesce(jsonb_agg(purchase ORDER BY place) FILTER (WHERE place > 0), '[]') AS purchases
FROM (
  SELECT
    customer, 0 AS step,
    row_number() OVER (PARTITION BY customer ORDER BY sold_at DESC, channel DESC, sale_id DESC) AS place,
    jsonb_build_object(
      'sold_at', sold_at, 'channel', channel, 'sale_id', sale_id, 'pieces', pieces, 'total_minor', total_minor,
      'lines', lines
    ) AS purchase
  FROM last_five
  UNION ALL
  SELECT customer, CASE WHEN cancelled THEN 2 ELSE 1 END, 0, NULL::jsonb
  FROM sales
  WHERE customer IS NOT NULL
) AS parts
GROUP BY customer;

CREATE SINK purchases_topic FROM purchases
WITH (
  connector = 'kafka', topic = 'stockloop.views.purchases.v1', properties.bootstrap.server = '${BROKERS}',
  primary_key = 'customer'
) FORMAT UPSERT ENCODE JSON (jsonb.handling.mode = 'dynamic') KEY ENCODE TEXT;
