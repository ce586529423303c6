// Reads tensors of a source before they are wanted, in the order in which they will be.
//
//   SourceReader reader(source, names, most_ahead);
//   for (size_t i = 0; i < names.size(); ++i) {
//     reader.want(i);  // tensor i is in memory, the next ones on their way
//     ...
//   }
//
// A thread beside reads the tensors behind the wanted one: the next, and more as long as they are
// of no more than most_ahead bytes together. For one thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mezzotint/weights.h"

namespace mezzotint {

class SourceReader {
 public:
  // The source outlives this. 0 bytes: one tensor ahead.
  SourceReader(const WeightStore& source, const std::vector<std::string>& names,
               int64_t most_ahead = 0);
  ~SourceReader();
  SourceReader(const SourceReader&) = delete;
  SourceReader& operator=(const SourceReader&) = delete;

  void want(size_t i);  // 0, 1, 2, ...

 private:
  void run();

  const WeightStore& source_;
  const std::vector<std::string> names_;
  std::vector<size_t> ends_;  // [wanted]: before which tensor to stop
  std::mutex mutex_;          // of all below but the thread
  std::condition_variable changed_;
  size_t wanted_ = 0;
  size_t read_ = 0;  // those before it are
  bool ending_ = false;
  std::thread thread_;
};

// How many tensors behind the first of `bytes` are read ahead: one where there is one, and more as
// long as they are of no more than most_ahead bytes together.
size_t tensors_ahead(std::span<const int64_t> bytes, int64_t most_ahead);

}  // namespace mezzotint
