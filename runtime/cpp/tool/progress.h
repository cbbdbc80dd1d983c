// What a user sees of a long run, and how they end it.
#pragma once

#include <cstddef>
#include <string>

namespace keepstep::tool {

/// A line that counts on the error stream, where that is a terminal. It is gone at the end.
class Counter {
  public:
    explicit Counter(std::string what);
    Counter(const Counter&) = delete;
    Counter& operator=(const Counter&) = delete;
    ~Counter();

    void tell(std::size_t done, std::size_t all) const;

  private:
    std::string what_;
    bool shown_;
};

/// From now on Ctrl-C, SIGTERM and SIGHUP are told by `is_interrupted`, but for what was ignored; a
/// second one of a kind ends the program at once.
void catch_interrupts();
bool is_interrupted() noexcept;
/// Throws the failure that an interrupt is, where there was one.
void check_interrupts();

}  // namespace keepstep::tool
