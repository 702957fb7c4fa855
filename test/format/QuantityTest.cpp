// Numbers as people read them.
#include "runtime/format/Quantity.h"

#include <doctest/doctest.h>

using namespace calibatt;

TEST_CASE("digits are grouped by three") {
  CHECK(groupedNumber(0) == "0");
  CHECK(groupedNumber(999) == "999");
  CHECK(groupedNumber(1000) == "1,000");
  CHECK(groupedNumber(1234567) == "1,234,567");
}

TEST_CASE("bytes have the largest unit of which there is at least one") {
  CHECK(byteQuantity(0) == "0 B");
  CHECK(byteQuantity(1023) == "1023 B");
  CHECK(byteQuantity(1536) == "1.5 KiB");
  CHECK(byteQuantity((1 << 20) - 1) == "1.0 MiB");
  CHECK(byteQuantity(uint64_t(5) << 42) == "20.0 TiB");
}

TEST_CASE("one thing is singular, none and several are plural") {
  CHECK(counted(0, "site") == "0 sites");
  CHECK(counted(1, "site") == "1 site");
  CHECK(counted(2, "site") == "2 sites");
  CHECK(counted(12345, "data image") == "12,345 data images");
  CHECK(counted(1, "launch", "launches") == "1 launch");
  CHECK(counted(3, "launch", "launches") == "3 launches");
}
