#!/bin/sh
# Makes the topics of the views on the broker at $BROKERS with Kafka's own tool; those that are there stay as they are.
set -eu

create() {
    kafka-topics.sh --bootstrap-server "$BROKERS" --create --if-not-exists --partitions 4 "$@"
}

for topic in stockloop.sales.v1 stockloop.views.stock_value.v1 stockloop.views.purchases.v1; do
    create --topic "$topic" --config cleanup.policy=compact
done
for topic in till.sales.v1 till.sales.dead.v1; do
    create --topic "$topic"
done
