#!/bin/sh
# Starts the views in a container that has Maven and Java, with what they keep below $VIEWS.
set -eu
cd "$(dirname "$0")"
lib=$VIEWS/lib
tmp=$VIEWS/tmp
# The jobs that run: without till.sql the till is switched off.
files=${VIEW_FILES:-inventory.sql sales.sql till.sql purchases.sql}

# Only where the POM is another one than last time: a restart needs no network.
if ! cmp -s pom.xml "$lib/pom.xml"; then
    rm -rf "$lib"
    mvn --batch-mode --no-transfer-progress dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$lib"
    cp pom.xml "$lib/pom.xml"
fi

# What a killed one has left there is a hundred megabytes.
rm -rf "$tmp"
mkdir -p "$tmp"
CHECKPOINTS=$VIEWS/checkpoints
export CHECKPOINTS
# Unquoted, since it names several.
exec java -Xmx1g "-Djava.io.tmpdir=$tmp" -Dlog4j2.configurationFile=log4j2.properties \
    -cp "$lib/*" SqlRunner.java $files
