// The cache's folder: what comes back, what does not, who waits, and what goes first.
#include "runtime/format/ContentStore.h"
#include "runtime/format/Hash.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;
namespace fs = std::filesystem;

namespace {

std::string keyOf(const std::string &text) {
  Sha256 hash;
  hash.update(text);
  return toHex(hash.finish());
}

/// A store in a new folder.
struct Store : ScratchFolder {
  ContentStore store = [this] {
    auto opened = ContentStore::open(file("cache"));
    REQUIRE_MESSAGE(opened, (opened ? "" : opened.message()));
    return opened.take();
  }();
  std::string path(const std::string &kind, const std::string &key) const {
    return file("cache/" + kind + "/" + key.substr(0, 2) + "/" + key);
  }
};

void setTime(const std::string &path, int64_t seconds) {
  timespec times[2] = {{seconds, 0}, {seconds, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

int64_t timeOf(const std::string &path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_mtim.tv_sec;
}

} // namespace

TEST_CASE("a store gives back what was put, by kind and key only") {
  Random random;
  INFO("seed ", random.seed);
  Store s;
  const std::string key = keyOf("one");
  const std::vector<uint8_t> first = random.bytes(random.integer(1, 70000));
  CHECK_FALSE(s.store.get("kernel", key));
  REQUIRE(s.store.put("kernel", key, first));
  CHECK(s.store.get("kernel", key) == first);
  CHECK_FALSE(s.store.get("layer", key));
  CHECK_FALSE(s.store.get("kernel", keyOf("two")));
  const std::vector<uint8_t> second = random.bytes(random.integer(1, 70000));
  REQUIRE(s.store.put("kernel", key, second));
  CHECK(s.store.get("kernel", key) == second);
  REQUIRE(s.store.put("layer", key, {}));
  CHECK(s.store.get("layer", key) == std::vector<uint8_t>{});
  ContentStore::Usage usage = s.store.usage();
  CHECK(usage.entries == 2);
  CHECK(usage.kinds.at("kernel").bytes == fs::file_size(s.path("kernel", key)));
}

TEST_CASE("an entry with any byte changed, cut, longer, or under another's name is a miss") {
  Random random;
  Store s;
  const std::string key = keyOf("one");
  REQUIRE(s.store.put("kernel", key, random.bytes(60)));
  const std::string path = s.path("kernel", key);
  const std::vector<uint8_t> good = readBytes(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::vector<uint8_t> bad = good;
    bad[i] ^= uint8_t(1 << random.integer(0, 7));
    writeBytes(path, bad);
    CHECK_FALSE(s.store.get("kernel", key));
    writeBytes(path, std::span(good).first(i));
    CHECK_FALSE(s.store.get("kernel", key));
  }
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  writeBytes(path, longer);
  CHECK_FALSE(s.store.get("kernel", key));
  writeBytes(path, good);
  CHECK(s.store.get("kernel", key));

  const std::string other = keyOf("other");
  for (const std::string &stranger : {s.path("kernel", other), s.path("layer", key)}) {
    fs::create_directories(fs::path(stranger).parent_path());
    writeBytes(stranger, good);
  }
  CHECK_FALSE(s.store.get("kernel", other));
  CHECK_FALSE(s.store.get("layer", key));
  // A folder in the place of an entry is no entry, and putting one says so.
  const std::string third = keyOf("third");
  fs::create_directories(s.path("kernel", third));
  CHECK_FALSE(s.store.get("kernel", third));
  CHECK(s.store.put("kernel", third, good).message().find("is a directory") != std::string::npos);
}

TEST_CASE("a pipe, a link or a sparse file in the place of an entry is told, and replaced") {
  Random random;
  INFO("seed ", random.seed);
  Store s;
  const std::string key = keyOf("one"), path = s.path("kernel", key);
  const std::vector<uint8_t> content = random.bytes(random.integer(0, 3000));
  REQUIRE(s.store.put("kernel", key, content));
  const std::vector<uint8_t> good = readBytes(path);
  auto sparse = [&](uint64_t size) { fs::resize_file(path, size); };
  struct Case {
    const char *wanted;
    std::function<void()> make;
  };
  const Case cases[] = {
      {"is not a regular file",
       [&] {
         fs::remove(path);
         REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
       }},
      {"is a link",
       [&] {
         writeBytes(s.file("elsewhere"), good);
         fs::remove(path), fs::create_symlink(s.file("elsewhere"), path);
       }},
      {"is a link", [&] { fs::remove(path), fs::create_symlink("/dev/zero", path); }},
      {"but says", [&] { writeBytes(path, good), sparse(6ull << 30); }},
      {"is damaged", [&] { writeBytes(path, {}), sparse(6ull << 30); }},
      {"but says", // of the size that it says, but too large
       [&] {
         std::vector<uint8_t> bad = good;
         const uint64_t size = 6ull << 30;
         std::memcpy(bad.data() + 17 + 16, &size, sizeof size);
         writeBytes(path, bad), sparse(good.size() - content.size() + size);
       }},
      {"is the entry of another key",
       [&] {
         REQUIRE(s.store.put("kernel", keyOf("two"), content));
         writeBytes(path, readBytes(s.path("kernel", keyOf("two"))));
       }},
  };
  for (const Case &test : cases) {
    test.make();
    INFO(test.wanted);
    std::string problem;
    CHECK_FALSE(s.store.get("kernel", key, &problem));
    CHECK_MESSAGE(problem.starts_with(path + ": "), problem);
    CHECK_MESSAGE(problem.find(test.wanted) != std::string::npos, problem);
    REQUIRE(s.store.put("kernel", key, content));
    CHECK(s.store.get("kernel", key, &problem) == content);
    CHECK(fs::is_regular_file(fs::symlink_status(path)));
  }
  CHECK(readBytes(s.file("elsewhere")) == good);
  std::string problem;
  CHECK_FALSE(s.store.get("kernel", keyOf("nothing"), &problem));
  CHECK(problem.empty());
  // Pruning does not take other entries for it.
  writeBytes(path, {}), sparse(6ull << 30);
  ContentStore::Removed removed = s.store.prune(1 << 20);
  CHECK(removed.entries == 1);
  CHECK(s.store.get("kernel", keyOf("two")) == content);
  // A lock that is a pipe or a link locks nothing, and nobody waits for it.
  fs::remove(s.file("cache/lock"));
  REQUIRE(::mkfifo(s.file("cache/lock").c_str(), 0600) == 0);
  (void)s.store.lock("kernel", key);
}

TEST_CASE("of several threads and processes that want an entry one makes it, the others wait") {
  Store s;
  const std::string key = keyOf("wanted"), made = s.file("made");
  auto want = [&] {
    for (int i = 0; i < 2; ++i) {
      if (s.store.get("kernel", key))
        return true;
      ContentStore::Lock lock = s.store.lock("kernel", key);
      if (s.store.get("kernel", key))
        return true;
      // Fails where somebody has been here: then two make it.
      const int fd = ::open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd < 0)
        return false;
      ::close(fd);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      if (!s.store.put("kernel", key, std::vector<uint8_t>(5, 7)))
        return false;
    }
    return s.store.get("kernel", key).has_value();
  };
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0)
      ::_exit(want() ? 0 : 1);
    children.push_back(child);
  }
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] { failures += !want(); });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(failures == 0);
  for (pid_t child : children) {
    int state = 0;
    REQUIRE(::waitpid(child, &state, 0) == child);
    CHECK(state == 0);
  }
}

TEST_CASE("a lock ends with its process, does not bar other entries, and a wait can be cancelled") {
  Store s;
  const std::string key = keyOf("locked");
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    [[maybe_unused]] const ContentStore::Lock lock = s.store.lock("kernel", key);
    if (::write(ready[1], "x", 1) == 1)
      ::pause();
    ::_exit(1);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  {
    ContentStore::Lock other = s.store.lock("kernel", keyOf("another"));
  }
  std::atomic<bool> cancel{false};
  std::thread waiter([&] { (void)s.store.lock("kernel", key, &cancel); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  cancel = true;
  waiter.join();
  REQUIRE(::kill(child, SIGKILL) == 0);
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  {
    ContentStore::Lock mine = s.store.lock("kernel", key);
  } // returns at once
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("pruning removes what was not used for longest, and old leftovers") {
  Random random;
  Store s;
  const int64_t now = int64_t(::time(nullptr));
  std::vector<std::string> keys;
  for (int i = 0; i < 6; ++i) {
    keys.push_back(keyOf("entry " + std::to_string(i)));
    REQUIRE(s.store.put("kernel", keys.back(), random.bytes(1000)));
    setTime(s.path("kernel", keys.back()), now - 1000 + i);
  }
  CHECK(s.store.usage().oldestUse == now - 1000);
  // The oldest is used, and becomes the newest.
  REQUIRE(s.store.get("kernel", keys[0]));
  CHECK(timeOf(s.path("kernel", keys[0])) >= now);
  const std::string old = s.path("kernel", keys[1]) + ".tmp-1-0",
                    fresh = s.path("kernel", keys[1]) + ".tmp-2-0";
  writeBytes(old, random.bytes(50));
  writeBytes(fresh, random.bytes(50));
  setTime(old, now - 4000);
  CHECK(s.store.usage().leftoverBytes == 100);

  const uint64_t entry = fs::file_size(s.path("kernel", keys[0]));
  ContentStore::Removed removed = s.store.prune(4 * entry + entry / 2);
  CHECK(removed.entries == 2);
  CHECK(removed.bytes == 2 * entry + 50);
  CHECK(removed.failed == 0);
  for (int i = 0; i < 6; ++i)
    CHECK(s.store.get("kernel", keys[size_t(i)]).has_value() == (i != 1 && i != 2));
  CHECK_FALSE(fs::exists(old));
  CHECK(fs::exists(fresh));
  CHECK(s.store.prune(4 * entry).entries == 0);
}

TEST_CASE("clearing removes entries and leftovers, and nothing else that is in the folder") {
  Store s;
  const std::string key = keyOf("one");
  REQUIRE(s.store.put("kernel", key, std::vector<uint8_t>(10)));
  REQUIRE(s.store.put("layer", key, std::vector<uint8_t>(10)));
  writeBytes(s.path("layer", key) + ".tmp-1-0", std::vector<uint8_t>(10));
  const std::vector<std::string> strangers = {
      s.file("cache/notes.txt"), s.file("cache/kernel/notes.txt"),
      s.file("cache/kernel/" + key.substr(0, 2) + "/notes.txt"),
      s.file("cache/kernel/" + key.substr(0, 2) + "/" + key + ".txt")};
  for (const std::string &stranger : strangers)
    writeBytes(stranger, std::vector<uint8_t>(3));
  ContentStore::Removed removed = s.store.clear();
  CHECK(removed.entries == 2);
  CHECK_FALSE(s.store.get("kernel", key));
  for (const std::string &stranger : strangers)
    CHECK_MESSAGE(fs::exists(stranger), stranger);
  CHECK(s.store.usage().entries == 0);
  REQUIRE(s.store.put("kernel", key, std::vector<uint8_t>(10)));
}

TEST_CASE("a folder that is no cache is told by name, and not made") {
  ScratchFolder folder;
  CHECK(ContentStore::openExisting(folder.file("none"))
            .message()
            .starts_with(folder.file("none") + ": is no cache: "));
  CHECK_FALSE(fs::exists(folder.file("none")));
  CHECK(ContentStore::openExisting(folder.path()).message() ==
        folder.path() + ": is no cache: it has no CACHEDIR.TAG");
  writeBytes(folder.file("file"), std::vector<uint8_t>(1));
  CHECK(ContentStore::open(folder.file("file"))
            .message()
            .starts_with(folder.file("file") + ": cannot be a cache folder: "));
  REQUIRE(ContentStore::open(folder.file("a/b")));
  CHECK(ContentStore::openExisting(folder.file("a/b")));
}

TEST_CASE("the default folder follows CALIBATT_CACHE, XDG_CACHE_HOME and HOME, in this order") {
  auto with = [](const char *cache, const char *xdg, const char *home) {
    const char *names[] = {"CALIBATT_CACHE", "XDG_CACHE_HOME", "HOME"};
    const char *values[] = {cache, xdg, home};
    std::optional<std::string> before[3];
    for (int i = 0; i < 3; ++i) {
      if (const char *value = std::getenv(names[i]))
        before[i] = value;
      values[i] ? ::setenv(names[i], values[i], 1) : ::unsetenv(names[i]);
    }
    std::string folder = ContentStore::defaultFolder();
    for (int i = 0; i < 3; ++i)
      before[i] ? ::setenv(names[i], before[i]->c_str(), 1) : ::unsetenv(names[i]);
    return folder;
  };
  CHECK(with("/c", "/x", "/h") == "/c");
  CHECK(with("", "/x", "/h") == "");
  CHECK(with(nullptr, "/x", "/h") == "/x/calibatt");
  CHECK(with(nullptr, "relative", "/h") == "/h/.cache/calibatt");
  CHECK(with(nullptr, nullptr, nullptr) == "");
}
