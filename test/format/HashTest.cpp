// Digests against published vectors, zstd frames, and strict JSON.
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/Zstd.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

std::string sha256Text(const std::string &text) {
  Sha256 hash;
  hash.update(text);
  return toHex(hash.finish());
}

} // namespace

TEST_CASE("SHA-256 agrees with the vectors of FIPS 180-4") {
  CHECK(sha256Text("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256Text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256Text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256Text(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on how the bytes are cut") {
  Random random;
  INFO("seed ", random.seed);
  for (size_t size = 0; size < 300; ++size) {
    std::vector<uint8_t> bytes = random.bytes(size);
    Sha256 hash;
    hash.update(std::span<const uint8_t>()); // nothing, at null
    for (std::span<const uint8_t> rest = bytes; !rest.empty();) {
      size_t piece = random.integer(1, rest.size());
      hash.update(rest.first(piece));
      rest = rest.subspan(piece);
      hash.update(std::span<const uint8_t>());
    }
    CHECK(hash.finish() == sha256(bytes));
  }
}

TEST_CASE("XXH3-128 of nothing is the published value") {
  // XXH128 prints the high half first: 99aa06d3014798d86001c324468d497f.
  CHECK(toHex(xxh128({})) == "7f498d4624c30160d8984701d306aa99");
}

TEST_CASE("a zstd frame decodes to exactly what it held") {
  Random random;
  INFO("seed ", random.seed);
  for (size_t size : {size_t(0), size_t(1), size_t(5000), size_t(1) << 21}) {
    std::vector<uint8_t> bytes = random.bytes(size / 2);
    bytes.insert(bytes.end(), size - bytes.size(), 7);
    for (bool longWindow : {false, true}) {
      Result<std::vector<uint8_t>> frame = zstdCompress(bytes, 3, longWindow);
      REQUIRE(frame);
      Result<std::vector<uint8_t>> back = zstdDecompress(*frame, size, "frame");
      REQUIRE_MESSAGE(back, back.message());
      CHECK(*back == bytes);
    }
  }
}

TEST_CASE("zstd frames that are cut, followed by more or of another size are refused") {
  Random random;
  std::vector<uint8_t> bytes = random.bytes(1000);
  std::vector<uint8_t> frame = zstdCompress(bytes).take();
  auto error = [](std::span<const uint8_t> frame, uint64_t size) {
    Result<std::vector<uint8_t>> result = zstdDecompress(frame, size, "frame");
    return result ? std::string() : result.message();
  };
  for (size_t size = 0; size < frame.size(); ++size)
    CHECK(error(std::span(frame).first(size), 1000).rfind("frame: ", 0) == 0);
  CHECK(error(frame, 999).find("does not hold the 999 bytes") != std::string::npos);
  CHECK(error(frame, uint64_t(1) << 60).find("does not hold") != std::string::npos);
  frame.push_back(0);
  CHECK(error(frame, 1000).find("frame has") != std::string::npos);
}

TEST_CASE("JSON with doubled keys, deep nesting or trailing text is refused") {
  auto error = [](const std::string &text) {
    Result<Json> json = parseJson(text, "file");
    return json ? std::string() : json.message();
  };
  CHECK(error(R"({"a": 1, "b": {"a": 2}, "c": [{"a": 1}, {"a": 2}]})").empty());
  CHECK(error(R"({"a": 1, "a": 1})").find("\"a\" twice") != std::string::npos);
  CHECK(error(R"({"b": {"a": 1, "\u0061": 2}})").find("\"a\" twice") != std::string::npos);
  CHECK(error(std::string(1000000, '[')).find("file: ") == 0);
  CHECK(error(std::string(100, '[') + std::string(100, ']')).find("nested deeper") !=
        std::string::npos);
  CHECK(error("{} x").find("not valid JSON") != std::string::npos);
  CHECK(error("{\"a\": 1e999}").find("not valid JSON") != std::string::npos);
  CHECK(error("{\"a\": \"\xff\"}").find("not valid JSON") != std::string::npos);
  CHECK_FALSE(error("").empty());
}

TEST_CASE("the first wrong field of an object is the one reported") {
  Json json = parseJson(R"({"n": 5, "neg": -5, "x": 0.5, "s": "t", "list": ["a", 1]})", "f").take();
  auto error = [&](auto read) {
    JsonFields fields(json, "f: part");
    read(fields);
    Status status = fields.status();
    return status ? std::string() : status.message();
  };
  CHECK(error([](auto &f) {
          CHECK(f.integer("n") == 5);
          CHECK(f.number("x") == 0.5);
          CHECK(f.number("neg") == -5);
          CHECK(f.string("s") == "t");
        }) == "");
  CHECK(error([](auto &f) { f.integer("n", 6, 9); }) == "f: part: n is 5, wanted 6 to 9");
  CHECK(error([](auto &f) { f.u32("neg"); }) == "f: part: neg is -5, wanted 0 to 4294967295");
  CHECK(error([](auto &f) { f.integer("x"); }) == "f: part: x is number, wanted an integer");
  CHECK(error([](auto &f) { f.strings("list"); }) == "f: part: list[1] is number, wanted a string");
  CHECK(error([](auto &f) {
          CHECK(f.string("none").empty());
          f.number("s");
        }) == "f: part: none is missing, wanted a string");
  Json notObject = Json::array();
  JsonFields fields(notObject, "f");
  CHECK(fields.status().message() == "f: is array, wanted an object");
}
