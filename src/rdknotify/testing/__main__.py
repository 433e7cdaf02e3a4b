"""``python -m rdknotify.testing``: get what real Kafka needs to run, or say in one line what is missing."""

import sys

from rdknotify.testing.jars import KAFKA_VERSION, LocalKafkaError, find_jars, find_java, java_version

try:
    print(f"Java {java_version(find_java())}, Kafka {KAFKA_VERSION} in {find_jars()}")
except LocalKafkaError as error:
    sys.exit(f"rdknotify.testing: {error}")
