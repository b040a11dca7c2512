// Books of a journal as a Python object, until a feed takes them.
#pragma once

#include <memory>
#include <stdexcept>
#include <utility>

#include "journal/image.hpp"

namespace fh::bind {

class JournalImage {
  public:
    explicit JournalImage(std::unique_ptr<journal::Image> image) : image_(std::move(image)) {}
    journal::Image& image() const {
        if (!image_) throw std::runtime_error("a feed has taken this image");
        return *image_;
    }
    std::unique_ptr<journal::Image> take() {
        [[maybe_unused]] const journal::Image& there = image();
        return std::move(image_);
    }

  private:
    std::unique_ptr<journal::Image> image_;
};

}  // namespace fh::bind
