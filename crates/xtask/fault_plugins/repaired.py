"""What a plugin that did harm is replaced with."""


def process_writes(influxdb3_local, table_batches, args=None):
    influxdb3_local.info("repaired")
