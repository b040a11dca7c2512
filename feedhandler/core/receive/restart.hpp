// A restart in the middle of a session: the receive thread holds packets and waits for books, another thread
// finds out where to get them, from the journal of an earlier run or from a snapshot server. Between them:
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "journal/image.hpp"

namespace fh::receive {

class Restart {
  public:
    enum class State : std::uint8_t { waiting, wanted, failed, over };      // receive thread to the other
    enum class Choice : std::uint8_t { none, journal, snapshot, nothing };  // the other to the receive thread

    // ---- receive thread

    void want(const char* session, std::uint64_t first) {
        first_.store(first, std::memory_order_relaxed);
        for (std::size_t i = 0; i < session_.size(); ++i)
            session_[i].store(session[i], std::memory_order_relaxed);
        state_.store(State::wanted, std::memory_order_release);
    }
    // The choice did not help: another one may be made.
    void fail() {
        choice_.store(Choice::none, std::memory_order_relaxed);
        state_.store(State::failed, std::memory_order_release);
    }
    void end() { state_.store(State::over, std::memory_order_release); }
    Choice choice() const { return choice_.load(std::memory_order_acquire); }
    journal::Image& image() { return *image_; }  // with Choice::journal

    // ---- the other thread

    State state() const { return state_.load(std::memory_order_acquire); }
    // Ten bytes, once the state is not waiting any more.
    std::string session() const {
        std::string out;
        for (const auto& c : session_) out.push_back(c.load(std::memory_order_relaxed));
        return out;
    }
    std::uint64_t first() const { return first_.load(std::memory_order_relaxed); }  // number joined at
    // In State::failed, or if it is the first choice.
    void choose(Choice choice) {
        State failed = State::failed;
        state_.compare_exchange_strong(failed, State::wanted);
        choice_.store(choice, std::memory_order_release);
    }
    void offer(std::unique_ptr<journal::Image> image) {
        image_ = std::move(image);
        choose(Choice::journal);
    }
    // Gives the memory back; in State::over.
    void drop_image() { image_.reset(); }

  private:
    std::atomic<State> state_{State::waiting};
    std::atomic<Choice> choice_{Choice::none};
    std::array<std::atomic<char>, frame::mold_session_bytes> session_{};
    std::atomic<std::uint64_t> first_{0};
    std::unique_ptr<journal::Image> image_;
};

}  // namespace fh::receive
