// Safetensors files written field by field, so that a test can make any one of them wrong.
#pragma once

#include "runtime/format/Safetensors.h"
#include "runtime/format/TablesDigest.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace calibatt::test {

struct RawTensor {
  DType dtype = DType::U8;
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;
};

template <typename T>
RawTensor rawTensor(DType dtype, std::vector<uint64_t> shape, const std::vector<T> &values) {
  const auto *begin = reinterpret_cast<const uint8_t *>(values.data());
  return {dtype, std::move(shape), {begin, begin + values.size() * sizeof(T)}};
}

struct RawFile {
  std::string key;
  nlohmann::json document;
  std::map<std::string, RawTensor> tensors;

  /// Everything of an existing file.
  static RawFile load(const std::string &path, const std::string &key) {
    Result<SafetensorsReader> reader = SafetensorsReader::open(path);
    REQUIRE(reader);
    RawFile raw{key, nlohmann::json::parse(*reader->metadata(key)), {}};
    for (const TensorEntry &t : reader->tensors()) {
      Result<std::vector<uint8_t>> bytes = reader->read(t, 0, t.bytes);
      REQUIRE(bytes);
      raw.tensors[t.name] = {t.dtype, t.shape, bytes.take()};
    }
    return raw;
  }

  /// With a digest that fits, as a forger would, where `sealed`: of profiles and packages.
  void save(const std::string &path, bool sealed = false) const {
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(path);
    REQUIRE(writer);
    writer->setMetadata(key, document.dump());
    std::vector<DigestEntry> entries;
    for (const auto &[name, tensor] : tensors) {
      REQUIRE(writer->add(name, tensor.dtype, tensor.shape, std::span(tensor.bytes)));
      entries.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    }
    if (sealed)
      REQUIRE(setDigests(*writer, document.dump(), entries));
    REQUIRE(writer->finish());
  }

  /// Element i of a tensor as T.
  template <typename T> void set(const std::string &name, size_t i, T value) {
    std::memcpy(tensors.at(name).bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  template <typename T> T get(const std::string &name, size_t i) const {
    T value;
    std::memcpy(&value, tensors.at(name).bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  }
};

} // namespace calibatt::test
