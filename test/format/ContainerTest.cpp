// The safetensors container: round trips, layout, and every lie a header can tell.
#include "runtime/format/Safetensors.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

std::string openError(const ScratchFolder &folder, std::span<const uint8_t> bytes) {
  writeBytes(folder.file("t"), bytes);
  Result<SafetensorsReader> file = SafetensorsReader::open(folder.file("t"));
  return file ? std::string() : file.message();
}

} // namespace

TEST_CASE("tensors of every type come back with name, shape and bytes") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  struct Wanted {
    std::string name;
    DType dtype;
    std::vector<uint64_t> shape;
    std::vector<uint8_t> bytes;
  };
  std::vector<Wanted> wanted;
  for (unsigned type = 0; type <= unsigned(kLastUsedDType); ++type)
    for (unsigned rank = 0; rank < 4; ++rank) {
      Wanted tensor{fmt::format("layer.{}/\"{}\"", type, rank), DType(type), {}, {}};
      uint64_t bytes = dtypeBytes(tensor.dtype);
      for (unsigned i = 0; i < rank; ++i) {
        tensor.shape.push_back(random.integer(0, 9));
        bytes *= tensor.shape.back();
      }
      tensor.bytes = random.bytes(bytes);
      wanted.push_back(std::move(tensor));
    }
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("t"));
  REQUIRE(writer);
  for (const Wanted &tensor : wanted)
    REQUIRE(writer->add(tensor.name, tensor.dtype, tensor.shape, tensor.bytes));
  writer->setMetadata("key", "a \"value\" of \xc3\xbc");
  REQUIRE(writer->finish());

  Result<SafetensorsReader> file = SafetensorsReader::open(folder.file("t"));
  REQUIRE_MESSAGE(file, file.message());
  REQUIRE(file->metadata("key"));
  CHECK(*file->metadata("key") == "a \"value\" of \xc3\xbc");
  CHECK(file->metadata("other") == nullptr);
  CHECK(file->tensors().size() == wanted.size());
  for (const Wanted &tensor : wanted) {
    Result<TensorView> view = file->tensor(tensor.name, tensor.dtype, tensor.shape);
    REQUIRE_MESSAGE(view, view.message());
    CHECK(view->copy<uint8_t>() == tensor.bytes);
  }
  CHECK((8 + file->headerBytes().size()) % 64 == 0);
}

TEST_CASE("streams of unknown length are written whole, padded and aligned") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("t"));
  REQUIRE(writer);
  std::vector<uint32_t> odd{1, 2, 3};
  REQUIRE(writer->add("odd", DType::U32, {3}, odd));
  Result<size_t> pool = writer->beginStream("pool", DType::U8);
  Result<size_t> rows = writer->beginStream("rows", DType::F32, {2, 3});
  REQUIRE((pool && rows));
  std::vector<uint8_t> poolBytes, rowBytes;
  for (int i = 0; i < 50; ++i) {
    std::vector<uint8_t> blob = random.bytes(random.integer(0, 5000)), row = random.bytes(24);
    REQUIRE(writer->append(*pool, blob));
    REQUIRE(writer->pad(*pool));
    poolBytes.insert(poolBytes.end(), blob.begin(), blob.end());
    poolBytes.resize((poolBytes.size() + 63) / 64 * 64);
    CHECK(writer->streamBytes(*pool) == poolBytes.size());
    REQUIRE(writer->append(*rows, row));
    rowBytes.insert(rowBytes.end(), row.begin(), row.end());
  }
  REQUIRE(writer->finish());
  CHECK(folder.list() == std::vector<std::string>{"t"});

  Result<SafetensorsReader> file = SafetensorsReader::open(folder.file("t"));
  REQUIRE_MESSAGE(file, file.message());
  CHECK(file->tensor("pool", DType::U8, {SafetensorsReader::kAnySize})->copy<uint8_t>() ==
        poolBytes);
  CHECK(file->tensor("rows", DType::F32, {50, 2, 3})->copy<uint8_t>() == rowBytes);
  CHECK(file->tensor("odd")->copy<uint32_t>() == odd);
  CHECK(file->tensor("odd")->load<uint32_t>(2) == 3);
  for (const TensorEntry &entry : file->tensors())
    CHECK(entry.offset % (entry.name == "pool" ? 64 : 4) == 0);
}

TEST_CASE("the writer refuses what would not be a valid file and leaves nothing") {
  ScratchFolder folder;
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("t"));
    REQUIRE(writer);
    std::vector<uint8_t> bytes(12);
    CHECK(writer->add("a", DType::U32, {4}, bytes).message().find("has 12 bytes, but U32 [4]") !=
          std::string::npos);
    CHECK_FALSE(writer->add("a", DType::U32, {1ull << 62, 4}, {}));
    CHECK(writer->add("a", DType::U32, {3}, bytes));
    CHECK(writer->add("a", DType::U32, {3}, bytes).message().find("added twice") !=
          std::string::npos);
    CHECK_FALSE(writer->add("__metadata__", DType::U32, {3}, bytes));
    Result<size_t> stream = writer->beginStream("s", DType::U32, {2});
    REQUIRE(stream);
    REQUIRE(writer->append(*stream, bytes));
    Status status = writer->finish();
    REQUIRE_FALSE(status);
    CHECK(status.message().find("has 12 bytes, not whole rows of 8") != std::string::npos);
  }
  CHECK(folder.list().empty());
  {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(folder.file("t"));
    writer->setMetadata("k", std::string(kMaxWrittenHeader, 'x'));
    CHECK(writer->finish().message().find("the header would have") != std::string::npos);
  }
  CHECK(folder.list().empty());
  CHECK_FALSE(SafetensorsWriter::create(folder.file("none/t")));
}

TEST_CASE("a header that lies is refused by name") {
  ScratchFolder folder;
  struct Case {
    const char *wanted, *header;
    size_t data;
  };
  const std::string deep = "{\"a\":" + std::string(2000, '[') + std::string(2000, ']') + "}";
  const Case cases[] = {
      {"", R"({})", 0},
      {"", R"({"__metadata__":{"a":"b"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   )",
       4},
      {"",
       R"({"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"U8","shape":[0,5],"data_offsets":[4,4]}})",
       4},
      {"", " \n{}\r\n\t", 0},
      {"", R"({"__metadata__":null})", 0},
      {"", R"({"a":["U8",[4],[0,4]],"b":{"dtype":{"F4":null},"shape":[2],"data_offsets":[4,5]}})",
       5},
      {"", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":{"y":[1.5]}}})", 4},
      {"", R"({"a":["U8",[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],[0,1]]})", 1},
      {"header is array, wanted an object", R"([])", 0},
      {"has a byte order mark", "\xEF\xBB\xBF{}", 0},
      {"is a list of 2, wanted dtype, shape and data_offsets", R"({"a":["U8",[4]]})", 4},
      {"U8 [1, 2, 1, 1, 1, 1, 1, 1, and 2 more] needs 2",
       R"({"a":["U8",[1,2,1,1,1,1,1,1,1,1],[0,1]]})", 1},
      {"F4 [3] overflows 64 bits, or does not end at a byte", R"({"a":["F4",[3],[0,1]]})", 1},
      {"not valid JSON", R"({"a":})", 0},
      {"twice",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       4},
      {"twice", R"({"a":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}})", 4},
      {"nested deeper", deep.c_str(), 0},
      {"tensor \"a\": is null, wanted an object", R"({"a":null})", 0},
      {"shape is missing", R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4},
      {"dtype \"X9\" is not known", R"({"a":{"dtype":"X9","shape":[4],"data_offsets":[0,4]}})", 4},
      {"shape has -4", R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4},
      {"shape has 4.0", R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4},
      {"overflows 64 bits",
       R"({"a":{"dtype":"U8","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}})", 0},
      {"two whole numbers", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4},
      {"two whole numbers", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[-1,3]}})", 4},
      {"begin at 4, after their end 0", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})",
       4},
      {"end at byte 9, but the file has 4",
       R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 4},
      {"hold 4 bytes, but U16 [4] needs 8",
       R"({"a":{"dtype":"U16","shape":[4],"data_offsets":[0,4]}})", 4},
      {"it overlaps \"a\"",
       R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       4},
      {"it overlaps \"a\"",
       R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       4},
      {"there is a hole before it",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       4},
      {"there is a hole before it", R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})", 4},
      {"cover 3 bytes, but the file has 4",
       R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 4},
      {"__metadata__ \"a\" is number, wanted a string", R"({"__metadata__":{"a":1}})", 0},
      {"__metadata__ is string, wanted an object", R"({"__metadata__":"x"})", 0},
  };
  for (const Case &test : cases) {
    std::vector<uint8_t> data(test.data, 1);
    std::string got = openError(folder, container(test.header, data));
    INFO(std::string(test.header).substr(0, 200), " -> ", got);
    if (std::string(test.wanted).empty())
      CHECK(got.empty());
    else
      CHECK_MESSAGE(got.find(test.wanted) != std::string::npos, test.wanted);
    CHECK((got.empty() || got.find(folder.file("t") + ": ") == 0));
  }
}

TEST_CASE("lengths that do not fit the file are refused") {
  ScratchFolder folder;
  std::vector<uint8_t> good = container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                                        std::vector<uint8_t>(4));
  REQUIRE(openError(folder, good).empty());
  for (size_t size = 0; size < good.size(); ++size)
    CHECK_FALSE(openError(folder, std::span(good).first(size)).empty());
  auto withLength = [&](uint64_t length) {
    std::vector<uint8_t> bytes = good;
    for (int i = 0; i < 8; ++i)
      bytes[i] = uint8_t(length >> (8 * i));
    return openError(folder, bytes);
  };
  CHECK(withLength(0).find("not valid JSON") != std::string::npos);
  CHECK(withLength(1000).find("only 57 bytes follow") != std::string::npos);
  CHECK(withLength(kMaxSafetensorsHeader + 1).find("at most 16777216") != std::string::npos);
  CHECK(withLength(~uint64_t(0)).find("header length is 18446744073709551615") !=
        std::string::npos);
}

TEST_CASE("asking for a tensor of another type or shape names both") {
  ScratchFolder folder;
  writeBytes(folder.file("t"),
             container(R"({"a":{"dtype":"U16","shape":[2,1],"data_offsets":[0,4]}})",
                       std::vector<uint8_t>(4)));
  Result<SafetensorsReader> file = SafetensorsReader::open(folder.file("t"));
  REQUIRE(file);
  constexpr uint64_t kAny = SafetensorsReader::kAnySize;
  CHECK(file->tensor("a", DType::U16, {kAny, 1}));
  CHECK(file->tensor("a", DType::U32, {kAny, 1}).message() ==
        folder.file("t") + ": tensor \"a\" is U16 [2, 1], wanted U32 [any, 1]");
  CHECK_FALSE(file->tensor("a", DType::U16, {2}));
  CHECK(file->tensor("b").message() == folder.file("t") + ": tensor \"b\" is missing");
}
