// The safetensors reader.
#include "runtime/format/Safetensors.h"
#include "test/fuzz/FuzzTarget.h"

using namespace calibatt;

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  return {
      container(R"({"__metadata__":{"a":"b"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                R"("b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]}}  )",
                random.bytes(28)),
      container(R"({"x":{"dtype":"BF16","shape":[0,7],"data_offsets":[0,0]}})", {})};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  test::MemoryFile memory({data, size});
  Result<SafetensorsReader> file = SafetensorsReader::open(memory.path());
  if (!file)
    return 0;
  uint64_t covered = 8 + file->headerBytes().size(), sum = 0;
  for (const TensorEntry &entry : file->tensors()) {
    test::expect(tensorBytes(entry.dtype, entry.shape) == entry.bytes,
                 "a tensor has the bytes of its shape");
    Result<TensorView> view = file->load(entry);
    test::expect(view && view->data.size() == entry.bytes, "a tensor is read");
    covered += entry.bytes;
    for (uint8_t byte : view->data)
      sum += byte;
  }
  test::expect(covered == size && sum <= 255 * size, "tensors cover the file");
  return 0;
}
