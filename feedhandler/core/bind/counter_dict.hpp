// Counters as Python dictionaries, by the tables of publish/counters.hpp.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <span>
#include <type_traits>

#include "publish/counters.hpp"

namespace fh::bind {

using Fields = std::span<const CounterInfo>;

inline nanobind::dict to_dict(const std::uint64_t* values, Fields fields) {
    nanobind::dict out;
    for (std::size_t i = 0; i < fields.size(); ++i) out[fields[i].name] = values[i];
    return out;
}

inline void from_dict(std::uint64_t* values, Fields fields, const nanobind::dict& in) {
    for (std::size_t i = 0; i < fields.size(); ++i)
        if (in.contains(fields[i].name)) values[i] = nanobind::cast<std::uint64_t>(in[fields[i].name]);
}

template <typename Struct>
auto* words(Struct& counters) {  // the structs are rows of uint64 in the order of their tables: counters.hpp
                                 // asserts it
    using Value = std::conditional_t<std::is_const_v<Struct>, const std::uint64_t, std::uint64_t>;
    return reinterpret_cast<Value*>(&counters);
}

}  // namespace fh::bind
