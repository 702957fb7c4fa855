// How a launch is cut into the lists of persistent CTAs.
#include "runtime/src/TileLists.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>

using namespace calibatt;

TEST_CASE("every tile with visits is in one list, and lists keep the launch order") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (uint32_t ctas : {1u, 7u, 132u, 5000u}) {
    std::vector<uint32_t> work(1000), visits(1000);
    std::iota(work.begin(), work.end(), 0u);
    for (uint32_t &v : visits)
      v = random() % 40;
    const TileLists cut = cutTileLists(work, visits, ctas);
    const size_t there = 1000 - size_t(std::count(visits.begin(), visits.end(), 0u));
    CHECK(cut.work.size() == there);
    CHECK(cut.begins.size() == std::min<size_t>(ctas, there) + 1);
    CHECK(cut.begins.front() == 0);
    CHECK(cut.begins.back() == there);
    std::vector<uint32_t> sorted = cut.work;
    std::sort(sorted.begin(), sorted.end());
    CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
    for (size_t list = 0; list + 1 < cut.begins.size(); ++list) {
      REQUIRE(cut.begins[list] < cut.begins[list + 1]);
      CHECK(std::is_sorted(cut.work.begin() + cut.begins[list],
                           cut.work.begin() + cut.begins[list + 1]));
    }
  }
}

TEST_CASE("the next tile goes to the CTA that is free first") {
  const uint32_t work[] = {10, 11, 12, 13, 14}, visits[] = {9, 2, 2, 2, 2};
  const TileLists cut = cutTileLists(work, visits, 2);
  CHECK(cut.work == std::vector<uint32_t>{10, 11, 12, 13, 14});
  CHECK(cut.begins == std::vector<uint32_t>{0, 1, 5});
}

TEST_CASE("a launch without visits has no lists") {
  const uint32_t work[] = {1, 2}, visits[] = {0, 0};
  const TileLists cut = cutTileLists(work, visits, 132);
  CHECK(cut.work.empty());
  CHECK(cut.begins == std::vector<uint32_t>{0});
}
