// Files that appear whole or not at all, and those that are read.
#include "runtime/format/AtomicFile.h"
#include "runtime/format/InputFile.h"
#include "runtime/format/OutputFolder.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;
namespace fs = std::filesystem;

TEST_CASE("an input file has the bytes of the file, an empty one none") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> bytes = random.bytes(random.integer(1, 20000));
  writeBytes(folder.file("a"), bytes);
  writeBytes(folder.file("empty"), {});
  Result<InputFile> file = InputFile::open(folder.file("a"));
  REQUIRE(file);
  InputFile moved = file.take();
  for (const InputFile &input : {InputFile::borrow("memory", bytes), std::move(moved)}) {
    CHECK(input.size() == bytes.size());
    CHECK(*input.read(0, bytes.size()) == bytes);
    const uint64_t at = random.integer(0, bytes.size()), count = bytes.size() - at;
    CHECK(*input.read(at, count) == std::vector<uint8_t>(bytes.begin() + int64_t(at), bytes.end()));
    CHECK(*input.sha256() == sha256(bytes));
    CHECK_FALSE(input.read(at, count + 1));
    CHECK_FALSE(input.read(bytes.size() + 1, 0));
    CHECK_FALSE(input.read(1, ~uint64_t(0)));
  }
  Result<InputFile> empty = InputFile::open(folder.file("empty"));
  REQUIRE(empty);
  CHECK(empty->size() == 0);
  CHECK(empty->read(0, 0)->empty());
  CHECK(*empty->sha256() == sha256({}));
}

TEST_CASE("a file that is truncated while it is open gives an error that says so") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  const std::vector<uint8_t> bytes = random.bytes(random.integer(3 << 20, 4 << 20));
  writeBytes(folder.file("a"), bytes);
  Result<InputFile> file = InputFile::open(folder.file("a"));
  REQUIRE(file);
  const uint64_t left = random.integer(0, bytes.size() - 1);
  REQUIRE(::truncate(folder.file("a").c_str(), off_t(left)) == 0);
  const std::string wanted =
      fmt::format("{}: ends at byte {}, but had {} bytes when it was opened: somebody truncated it",
                  folder.file("a"), left, bytes.size());
  CHECK(file->read(0, bytes.size()).message() == wanted);
  CHECK(file->sha256().message() == wanted);
  CHECK(*file->read(0, left) == std::vector<uint8_t>(bytes.begin(), bytes.begin() + int64_t(left)));
  REQUIRE(::unlink(folder.file("a").c_str()) == 0);
  CHECK(file->read(0, left));
}

TEST_CASE("what is no readable regular file cannot be read, and the message says why") {
  ScratchFolder folder;
  CHECK(InputFile::open(folder.file("none")).message() ==
        folder.file("none") + ": cannot open: No such file or directory");
  CHECK(InputFile::open(folder.path()).message() ==
        folder.path() + ": is a directory, not a regular file");
  CHECK(InputFile::open("/dev/null").message().find("a device") != std::string::npos);
  REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  CHECK_FALSE(InputFile::open(folder.file("fifo")));
}

TEST_CASE("an atomic file replaces the old one only when it is committed") {
  Random random;
  ScratchFolder folder;
  std::string path = folder.file("out");
  const std::vector<uint8_t> old = random.bytes(10), fresh = random.bytes(3000);
  writeBytes(path, old);
  {
    Result<AtomicFile> file = AtomicFile::create(path);
    REQUIRE(file);
    REQUIRE(file->write(fresh));
    CHECK(readBytes(path) == old);
  }
  CHECK(folder.list() == std::vector<std::string>{"out"});
  CHECK(readBytes(path) == old);
  Result<AtomicFile> file = AtomicFile::create(path);
  REQUIRE(file);
  AtomicFile moved = file.take();
  REQUIRE(moved.write(fresh));
  CHECK(moved.size() == fresh.size());
  REQUIRE(moved.commit());
  CHECK(readBytes(path) == fresh);
  CHECK(folder.list() == std::vector<std::string>{"out"});
}

TEST_CASE("a process that is killed while it writes leaves what was there") {
  ScratchFolder folder;
  const int probe = ::open(folder.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (probe < 0) {
    MESSAGE("skipped: the file system of ", folder.path(), " has no files without a name");
    return;
  }
  ::close(probe);
  const std::vector<uint8_t> old = Random().bytes(10);
  writeBytes(folder.file("out"), old);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
    Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
    if (file && spool && file->write(old) && spool->write(old))
      ::raise(SIGKILL);
    ::_exit(1);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  CHECK(WIFSIGNALED(state));
  CHECK(folder.list() == std::vector<std::string>{"out"});
  CHECK(readBytes(folder.file("out")) == old);
}

namespace {

/// A process that has a finished file under its temporary name, and waits to be killed.
class Writer {
public:
  explicit Writer(const std::string &path, const std::function<void()> &before = {}) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (before)
        before();
      Result<AtomicFile> file = AtomicFile::create(path);
      const bool good = file && file->write("of a writer that is killed") && file->prepare();
      if (::write(ready[1], good ? "y" : "n", 1) == 1)
        ::pause();
      ::_exit(1);
    }
    char answer = 0;
    REQUIRE(::read(ready[0], &answer, 1) == 1);
    good = answer == 'y';
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Writer() { end(); }
  void end() {
    if (child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    child = -1;
  }
  bool good = false;

private:
  pid_t child = -1;
};

/// The one name in the folder that is none of `known`.
std::string newName(const ScratchFolder &folder, const std::vector<std::string> &known) {
  for (const std::string &name : folder.list())
    if (std::find(known.begin(), known.end(), name) == known.end())
      return name;
  return {};
}

/// What a program that starts afterwards leaves of the folder when it has written `name`.
void writeAnew(const ScratchFolder &folder, const std::string &name) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    Result<AtomicFile> file = AtomicFile::create(folder.file(name));
    ::_exit(file && file->write("new") && file->commit() ? 0 : 1);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  REQUIRE(state == 0);
}

} // namespace

TEST_CASE("a temporary of a killed writer goes when its file is written again, that of a live one "
          "stays") {
  ScratchFolder folder;
  // Neither of another file, nor what only looks alike.
  const std::vector<std::string> others = {"out.tmp-1-0",
                                           "out.tmp-calibatt-",
                                           "out.tmp-calibatt-a-1",
                                           "out.tmp-calibatt-a-1-b",
                                           "other.tmp-calibatt-a-1-0",
                                           ".tmp-calibatt-a-1-0"};
  for (const std::string &name : others)
    writeBytes(folder.file(name), std::vector<uint8_t>(3));
  Writer live(folder.file("out"));
  REQUIRE(live.good);
  const std::string temporary = newName(folder, others);
  REQUIRE(temporary.starts_with("out.tmp-calibatt-"));
  writeAnew(folder, "out");
  CHECK(newName(folder, {others[0], others[1], others[2], others[3], others[4], others[5],
                         "out"}) == temporary);
  live.end();
  CHECK(fs::exists(folder.file(temporary)));
  writeAnew(folder, "out2");
  CHECK(fs::exists(folder.file(temporary)));
  writeAnew(folder, "out");
  CHECK_FALSE(fs::exists(folder.file(temporary)));
  for (const std::string &name : others)
    CHECK_MESSAGE(fs::exists(folder.file(name)), name);
}

TEST_CASE("another machine's temporary goes when nobody has written to it for an hour") {
  ScratchFolder folder;
  const std::string foreign = folder.file("out.tmp-calibatt-0123abcd-12-0");
  writeBytes(foreign, std::vector<uint8_t>(3));
  writeAnew(folder, "out");
  CHECK(fs::exists(foreign));
  const timespec then[2] = {{::time(nullptr) - 3700, 0}, {::time(nullptr) - 3700, 0}};
  REQUIRE(::utimensat(AT_FDCWD, foreign.c_str(), then, 0) == 0);
  writeAnew(folder, "out");
  CHECK_FALSE(fs::exists(foreign));
  // A link of that name is not followed, a pipe not waited for.
  writeBytes(folder.file("mine"), std::vector<uint8_t>(3));
  fs::create_symlink(folder.file("mine"), foreign);
  REQUIRE(::mkfifo(folder.file("out.tmp-calibatt-0123abcd-12-1").c_str(), 0600) == 0);
  writeAnew(folder, "out");
  CHECK(fs::exists(folder.file("mine")));
  CHECK(folder.list().size() == 4);
}

TEST_CASE("without /proc files have a name while they are written, and all of that holds") {
  ScratchFolder folder;
  writeBytes(folder.file("out"), std::vector<uint8_t>(1));
  Writer writer(folder.file("out"), [] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", "/proc", "tmpfs", 0, nullptr) != 0)
      ::raise(SIGKILL);
  });
  if (!writer.good) {
    MESSAGE("skipped: /proc cannot be hidden here");
    return;
  }
  CHECK(folder.list().size() == 2);
  writeAnew(folder, "out");
  CHECK(folder.list().size() == 2);
  writer.end();
  writeAnew(folder, "out");
  CHECK(folder.list() == std::vector<std::string>{"out"});
}

TEST_CASE("files that are written together appear together or not at all") {
  Random random;
  ScratchFolder folder;
  const std::vector<uint8_t> a = random.bytes(5000), b = random.bytes(70), old = random.bytes(9);
  writeBytes(folder.file("a"), old);
  CHECK_FALSE(writeTogether({{folder.file("a"), a}, {folder.file("none/b"), b}}));
  CHECK(folder.list() == std::vector<std::string>{"a"});
  CHECK(readBytes(folder.file("a")) == old);
  REQUIRE(writeTogether({{folder.file("a"), a}, {folder.file("b"), b}}));
  CHECK(readBytes(folder.file("a")) == a);
  CHECK(readBytes(folder.file("b")) == b);

  // A folder that was made goes again with what was written into it, and nothing else does.
  Result<OutputFolder> made = OutputFolder::make(folder.file("x/y"));
  REQUIRE(made);
  REQUIRE(made->write("one", "1"));
  REQUIRE(made->write("two", "2"));
  writeBytes(folder.file("x/mine"), old);
  CHECK_FALSE(made->write("none/three", "3"));
  CHECK(folder.list() == std::vector<std::string>{"a", "b", "x"});
  CHECK(fs::exists(folder.file("x/mine")));
  CHECK_FALSE(fs::exists(folder.file("x/y")));
}

TEST_CASE("a new file has the permissions that the umask allows") {
  ScratchFolder folder;
  mode_t before = ::umask(027);
  Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
  ::umask(before);
  REQUIRE(file);
  REQUIRE(file->commit());
  struct stat info{};
  REQUIRE(::stat(folder.file("out").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("unwritable places are refused before anything is written") {
  ScratchFolder folder;
  CHECK(AtomicFile::create(folder.file("none/out")).message() ==
        folder.file("none/out") + ": cannot write: No such file or directory");
  CHECK(AtomicFile::create(folder.path()).message().find("is a directory") != std::string::npos);
  CHECK(AtomicFile::create("/dev/full").message().find("is a device") != std::string::npos);
  CHECK_FALSE(SpoolFile::create(folder.file("none/out")));
  // Permissions do not stop root.
  if (::geteuid() != 0) {
    REQUIRE(::chmod(folder.path().c_str(), 0500) == 0);
    CHECK(AtomicFile::create(folder.file("out")).message().find("Permission denied") !=
          std::string::npos);
    REQUIRE(::chmod(folder.path().c_str(), 0700) == 0);
  }
}

TEST_CASE("a full disk fails the write, for spooled data too, and nothing stays") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> bytes = random.bytes(9000);
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 8192;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string atomic, spooled;
  {
    Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
    Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
    if (file && spool) {
      Status a = file->write(bytes), b = spool->write(bytes);
      atomic = a ? "" : a.message();
      spooled = b ? "" : b.message();
    }
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(atomic.find("out: cannot write: ") != std::string::npos);
  CHECK(spooled.find("out: cannot write a temporary beside it: ") != std::string::npos);
  CHECK(folder.list().empty());
}

TEST_CASE("spooled data arrive whole behind what was written before") {
  Random random;
  ScratchFolder folder;
  std::vector<uint8_t> head = random.bytes(11), body = random.bytes(3u << 20);
  Result<AtomicFile> file = AtomicFile::create(folder.file("out"));
  Result<SpoolFile> spool = SpoolFile::create(folder.file("out"));
  REQUIRE((file && spool));
  REQUIRE(file->write(head));
  REQUIRE(spool->write(std::span(body).first(1000)));
  REQUIRE(spool->write(std::span(body).subspan(1000)));
  REQUIRE(spool->copyTo(*file));
  REQUIRE(file->commit());
  std::vector<uint8_t> wanted = head;
  wanted.insert(wanted.end(), body.begin(), body.end());
  CHECK(readBytes(folder.file("out")) == wanted);
}
