#include "PtxFlow.h"

#include <map>
#include <sstream>

namespace calibatt::test {

namespace {

std::vector<std::string> linesOf(const std::string &text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    lines.push_back(line.substr(0, line.find("//")));
  return lines;
}

/// The compiler's labels ($L...) that a line names.
std::vector<std::string> labelsIn(const std::string &line) {
  std::vector<std::string> labels;
  for (size_t at = line.find("$L"); at != std::string::npos; at = line.find("$L", at + 2)) {
    size_t end = line.find_first_not_of("$ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
                                        "0123456789",
                                        at);
    labels.push_back(line.substr(at, end == std::string::npos ? end : end - at));
  }
  return labels;
}

/// A line is a node; edges[i] are the lines that may run after line i.
using Graph = std::vector<std::vector<size_t>>;

std::vector<bool> reachable(const Graph &graph, size_t from) {
  std::vector<bool> seen(graph.size());
  std::vector<size_t> pending{from};
  seen[from] = true;
  while (!pending.empty()) {
    size_t node = pending.back();
    pending.pop_back();
    for (size_t next : graph[node])
      if (!seen[next]) {
        seen[next] = true;
        pending.push_back(next);
      }
  }
  return seen;
}

Graph reversed(const Graph &graph) {
  Graph out(graph.size());
  for (size_t i = 0; i < graph.size(); ++i)
    for (size_t next : graph[i])
      out[next].push_back(i);
  return out;
}

} // namespace

std::vector<PtxLoop> ptxLoops(const std::string &ptx) {
  const std::vector<std::string> lines = linesOf(ptx);
  auto has = [&](size_t i, const char *text) { return lines[i].find(text) != std::string::npos; };

  std::map<std::string, size_t> places;                   // label -> line
  std::map<std::string, std::vector<std::string>> tables; // jump table -> labels
  for (size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::string> labels = labelsIn(lines[i]);
    if (labels.empty() || lines[i].find(labels[0] + ":") == std::string::npos)
      continue;
    places[labels[0]] = i;
    if (has(i, ".branchtargets"))
      tables[labels[0]].assign(labels.begin() + 1, labels.end());
    else if (i + 1 < lines.size() && has(i + 1, ".branchtargets"))
      tables[labels[0]] = labelsIn(lines[i + 1]);
  }

  Graph graph(lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::string> targets;
    if (has(i, "bra") && !has(i, ".branchtargets") && lines[i].find(':') == std::string::npos)
      targets = labelsIn(lines[i]);
    else if (has(i, "brx.idx"))
      targets = tables[labelsIn(lines[i]).back()];
    for (const std::string &target : targets)
      graph[i].push_back(places.at(target));
    bool ends = has(i, "ret;") || has(i, "exit;") || has(i, "brx.idx") ||
                (!targets.empty() && lines[i].find('@') == std::string::npos);
    if (!ends && i + 1 < lines.size())
      graph[i].push_back(i + 1);
  }

  const Graph back = reversed(graph);
  std::vector<PtxLoop> loops;
  for (size_t i = 0; i < lines.size(); ++i)
    for (size_t target : graph[i]) {
      if (target > i)
        continue;
      // A jump to an earlier line is a loop only where it can come round again.
      std::vector<bool> after = reachable(graph, target), before = reachable(back, i);
      if (!after[i])
        continue;
      PtxLoop loop{labelsIn(lines[target]).front()};
      for (size_t line = 0; line < lines.size(); ++line)
        if (after[line] && before[line]) {
          loop.wgmma += has(line, "wgmma.mma_async");
          loop.loads += has(line, "cp.async.bulk.tensor.5d.shared");
        }
      loops.push_back(loop);
    }
  return loops;
}

size_t countLines(const std::string &ptx, const std::string &text) {
  size_t count = 0;
  for (const std::string &line : linesOf(ptx))
    count += line.find(text) != std::string::npos;
  return count;
}

} // namespace calibatt::test
