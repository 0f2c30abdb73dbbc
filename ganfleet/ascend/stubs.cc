// What stands in for CANN where there is no card: enough for MindSpore's Ascend plug-in to load, to find a device, and to
// choose kernels. Nothing here computes. Every other symbol that the plug-in wants is an alias of a function that does
// nothing (see stubs.py), and a definition here takes precedence over it.
//
// The classes of namespace ge hold the descriptions of operators that the plug-in makes when it is loaded. Their layout is
// that of CANN's public headers as far as the plug-in relies on it: one shared pointer each, and for Operator a virtual
// destructor before it.

#define _GLIBCXX_USE_CXX11_ABI 0  // as the plug-in was compiled

#include <any>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

// ── The device

extern "C" {

const char* aclrtGetSocName() {
  const char* chosen = getenv("GANFLEET_STUB_SOC");
  return chosen ? chosen : "Ascend910B2";
}
const char* aclGetRecentErrMsg() { return "no card: these are ganfleet's stubs"; }
size_t aclDataTypeSize(int) { return 4; }
int aclrtGetDeviceCount(uint32_t* count) { return *count = 8, 0; }
int aclrtGetDevice(int32_t* device) { return *device = 0, 0; }
int aclrtGetMemInfo(int, size_t* free, size_t* total) {
  *total = 64ull << 30;
  *free = *total - (2ull << 30);
  return 0;
}
int aclrtMallocHost(void** pointer, size_t size) { return *pointer = malloc(size ? size : 1), 0; }
int aclrtFreeHost(void* pointer) { return free(pointer), 0; }
int aclrtMalloc(void** pointer, size_t size, int) { return *pointer = calloc(1, size ? size : 1), 0; }

#define MAKES_A_HANDLE(name) \
  int name(void** handle) { return *handle = malloc(64), 0; }
MAKES_A_HANDLE(aclrtCreateContext)
MAKES_A_HANDLE(aclrtGetCurrentContext)
MAKES_A_HANDLE(aclrtCreateStream)
MAKES_A_HANDLE(aclrtCreateStreamWithConfig)
MAKES_A_HANDLE(aclrtCreateEvent)
MAKES_A_HANDLE(aclrtCreateEventWithFlag)
MAKES_A_HANDLE(aclrtCreateEventExWithFlag)
}

// ── Descriptions of operators

namespace ge {

using std::string;
using std::vector;
using Status = uint32_t;
constexpr Status kDone = 0, kMissing = 0xFFFFFFFF;
enum DataType : int { kFirstType };
enum Format : int { kFirstFormat };
enum Placement : int { kFirstPlacement };

class AscendString {
 public:
  AscendString(const char* text);
  const char* GetString() const;
  bool operator<(const AscendString& other) const;

 private:
  std::shared_ptr<string> text_;
};
AscendString::AscendString(const char* text) : text_(text ? new string(text) : nullptr) {}
const char* AscendString::GetString() const { return text_ ? text_->c_str() : ""; }
bool AscendString::operator<(const AscendString& other) const { return string(GetString()) < other.GetString(); }

class Shape {
 public:
  Shape();
  explicit Shape(const vector<int64_t>& sides);
  size_t GetDimNum() const;
  int64_t GetDim(size_t axis) const;
  Status SetDim(size_t axis, int64_t side);
  vector<int64_t> GetDims() const;

 private:
  std::shared_ptr<vector<int64_t>> sides_;
};
Shape::Shape() : sides_(new vector<int64_t>) {}
Shape::Shape(const vector<int64_t>& sides) : sides_(new vector<int64_t>(sides)) {}
size_t Shape::GetDimNum() const { return sides_->size(); }
int64_t Shape::GetDim(size_t axis) const { return axis < sides_->size() ? (*sides_)[axis] : 0; }
Status Shape::SetDim(size_t axis, int64_t side) {
  if (axis >= sides_->size()) return kMissing;
  (*sides_)[axis] = side;
  return kDone;
}
vector<int64_t> Shape::GetDims() const { return *sides_; }

struct Described {
  Shape shape, origin_shape;
  Format format = kFirstFormat, origin_format = kFirstFormat;
  DataType type = kFirstType;
  Placement placement = kFirstPlacement;
  int64_t real_dims = 0;
};

class TensorDesc {
 public:
  TensorDesc();
  TensorDesc(Shape shape, Format format, DataType type);
  TensorDesc(const TensorDesc& other);
  TensorDesc(TensorDesc&& other);
  void SetDataType(DataType value);
  void SetPlacement(Placement value);
  void SetRealDimCnt(int64_t value);
  void SetOriginShape(const Shape& value);
  void SetOriginFormat(Format value);
  void SetShape(const Shape& value);
  void SetFormat(Format value);
  DataType GetDataType() const;
  Placement GetPlacement() const;
  Shape GetOriginShape() const;
  Shape GetShape() const;
  Format GetFormat() const;

 private:
  std::shared_ptr<Described> own_;
};
TensorDesc::TensorDesc() : own_(new Described) {}
TensorDesc::TensorDesc(Shape shape, Format format, DataType type) : own_(new Described) {
  own_->shape = shape;
  own_->format = format;
  own_->type = type;
}
TensorDesc::TensorDesc(const TensorDesc& other) : own_(new Described(*other.own_)) {}
TensorDesc::TensorDesc(TensorDesc&& other) : own_(new Described(*other.own_)) {}
void TensorDesc::SetDataType(DataType value) { own_->type = value; }
void TensorDesc::SetPlacement(Placement value) { own_->placement = value; }
void TensorDesc::SetRealDimCnt(int64_t value) { own_->real_dims = value; }
void TensorDesc::SetOriginShape(const Shape& value) { own_->origin_shape = value; }
void TensorDesc::SetOriginFormat(Format value) { own_->origin_format = value; }
void TensorDesc::SetShape(const Shape& value) { own_->shape = value; }
void TensorDesc::SetFormat(Format value) { own_->format = value; }
DataType TensorDesc::GetDataType() const { return own_->type; }
Placement TensorDesc::GetPlacement() const { return own_->placement; }
Shape TensorDesc::GetOriginShape() const { return own_->origin_shape; }
Shape TensorDesc::GetShape() const { return own_->shape; }
Format TensorDesc::GetFormat() const { return own_->format; }

struct Held {
  TensorDesc description;
  vector<uint8_t> bytes;
};

class Tensor {
 public:
  Tensor();
  explicit Tensor(const TensorDesc& description);
  Tensor(const TensorDesc& description, const uint8_t* bytes, size_t size);
  Status SetTensorDesc(const TensorDesc& description);
  Status SetData(const uint8_t* bytes, size_t size);
  uint8_t* GetData();
  size_t GetSize() const;
  TensorDesc GetTensorDesc() const;

 private:
  std::shared_ptr<Held> own_;
};
Tensor::Tensor() : own_(new Held) {}
Tensor::Tensor(const TensorDesc& description) : own_(new Held{description, {}}) {}
Tensor::Tensor(const TensorDesc& description, const uint8_t* bytes, size_t size)
    : own_(new Held{description, vector<uint8_t>(bytes, bytes + size)}) {}
Status Tensor::SetTensorDesc(const TensorDesc& description) {
  own_ = std::make_shared<Held>(Held{description, own_->bytes});
  return kDone;
}
Status Tensor::SetData(const uint8_t* bytes, size_t size) {
  own_->bytes.assign(bytes, bytes + size);
  return kDone;
}
uint8_t* Tensor::GetData() { return own_->bytes.data(); }
size_t Tensor::GetSize() const { return own_->bytes.size(); }
TensorDesc Tensor::GetTensorDesc() const { return own_->description; }

using Types = vector<DataType>;
using Rows = vector<vector<int64_t>>;
using Floats = vector<float>;
using Ints = vector<int>;
using Longs = vector<int64_t>;
using Strings = vector<string>;
using Texts = vector<AscendString>;
using Bools = vector<bool>;

struct Named {
  string name, type;
  std::map<string, std::any> attributes;
};

// The attributes of an operator, in each of the types that the plug-in gives them or asks for.
#define REGISTERED(ONE)                                                                                       \
  ONE(const AscendString&) ONE(const Tensor&) ONE(const DataType&) ONE(const Texts&) ONE(const Types&) ONE(const Rows&) \
  ONE(const Floats&) ONE(const Longs&) ONE(bool) ONE(float) ONE(int64_t)
#define SET(ONE)                                                                                        \
  ONE(const Tensor&) ONE(const DataType&) ONE(const Types&) ONE(const Rows&) ONE(const Floats&) ONE(const Ints&) \
  ONE(const Longs&) ONE(const char*) ONE(bool) ONE(float) ONE(int) ONE(unsigned) ONE(int64_t)
#define SET_BY_STRING(ONE)                                                                                  \
  ONE(const Strings&) ONE(const Bools&) ONE(const Floats&) ONE(const Ints&) ONE(const Longs&) ONE(const string&) \
  ONE(bool) ONE(float) ONE(int) ONE(int64_t)
#define GOT(ONE) \
  ONE(Tensor) ONE(DataType) ONE(Types) ONE(Rows) ONE(Floats) ONE(Ints) ONE(Longs) ONE(bool) ONE(float) ONE(int) ONE(int64_t)
#define GOT_BY_STRING(ONE) ONE(string) ONE(Strings)

class Operator {
 public:
  explicit Operator(const string& name);
  Operator(const string& name, const string& type);
  explicit Operator(const char* name);
  Operator(const char* name, const char* type);
  Operator(const AscendString& name, const AscendString& type);
  virtual ~Operator() {}
#define DECLARED(T) void AttrRegister(const char* name, T value);
  REGISTERED(DECLARED)
#undef DECLARED
#define DECLARED(T) Operator& SetAttr(const char* name, T value);
  SET(DECLARED)
#undef DECLARED
#define DECLARED(T) Operator& SetAttr(const string& name, T value);
  SET_BY_STRING(DECLARED)
#undef DECLARED
#define DECLARED(T) Status GetAttr(const char* name, T& value) const;
  GOT(DECLARED)
#undef DECLARED
#define DECLARED(T) Status GetAttr(const string& name, T& value) const;
  GOT_BY_STRING(DECLARED)
#undef DECLARED
  Status GetName(AscendString& name) const;
  string GetName() const;
  Status GetOpType(AscendString& type) const;
  string GetOpType() const;

 private:
  std::shared_ptr<Named> own_;
};

// Values are kept in one type of each kind, whichever they came in.
template <class T>
std::any kept(const T& value) {
  return value;
}
std::any kept(const AscendString& value) { return string(value.GetString()); }
std::any kept(const int& value) { return static_cast<int64_t>(value); }
std::any kept(const unsigned& value) { return static_cast<int64_t>(value); }
std::any kept(const Ints& value) { return Longs(value.begin(), value.end()); }
std::any kept(const char* const& value) { return string(value ? value : ""); }
std::any kept(const Texts& value) {
  Strings strings;
  for (const auto& each : value) strings.push_back(each.GetString());
  return strings;
}

template <class T>
Status found(const std::map<string, std::any>& attributes, const string& name, T& value) {
  auto it = attributes.find(name);
  const T* held = it == attributes.end() ? nullptr : std::any_cast<T>(&it->second);
  if (!held) return kMissing;
  value = *held;
  return kDone;
}
Status found(const std::map<string, std::any>& attributes, const string& name, int& value) {
  int64_t held;
  if (found(attributes, name, held) != kDone) return kMissing;
  value = static_cast<int>(held);
  return kDone;
}
Status found(const std::map<string, std::any>& attributes, const string& name, Ints& value) {
  Longs held;
  if (found(attributes, name, held) != kDone) return kMissing;
  value.assign(held.begin(), held.end());
  return kDone;
}

Operator::Operator(const string& name) : own_(new Named{name, name, {}}) {}
Operator::Operator(const string& name, const string& type) : own_(new Named{name, type, {}}) {}
Operator::Operator(const char* name) : own_(new Named{name ? name : "", name ? name : "", {}}) {}
Operator::Operator(const char* name, const char* type) : own_(new Named{name ? name : "", type ? type : "", {}}) {}
Operator::Operator(const AscendString& name, const AscendString& type)
    : own_(new Named{name.GetString(), type.GetString(), {}}) {}
#define DEFINED(T) \
  void Operator::AttrRegister(const char* name, T value) { own_->attributes[name] = kept(value); }
REGISTERED(DEFINED)
#undef DEFINED
#define DEFINED(T) \
  Operator& Operator::SetAttr(const char* name, T value) { return own_->attributes[name] = kept(value), *this; }
SET(DEFINED)
#undef DEFINED
#define DEFINED(T) \
  Operator& Operator::SetAttr(const string& name, T value) { return own_->attributes[name] = kept(value), *this; }
SET_BY_STRING(DEFINED)
#undef DEFINED
#define DEFINED(T) \
  Status Operator::GetAttr(const char* name, T& value) const { return found(own_->attributes, name, value); }
GOT(DEFINED)
#undef DEFINED
#define DEFINED(T) \
  Status Operator::GetAttr(const string& name, T& value) const { return found(own_->attributes, name, value); }
GOT_BY_STRING(DEFINED)
#undef DEFINED
Status Operator::GetName(AscendString& name) const { return name = AscendString(own_->name.c_str()), kDone; }
string Operator::GetName() const { return own_->name; }
Status Operator::GetOpType(AscendString& type) const { return type = AscendString(own_->type.c_str()), kDone; }
string Operator::GetOpType() const { return own_->type; }

struct OperatorFactory {
  static Operator CreateOperator(const char* name, const char* type);
  static Operator CreateOperator(const string& name, const string& type);
  static bool IsExistOp(const char* type);
  static bool IsExistOp(const string& type);
};
Operator OperatorFactory::CreateOperator(const char* name, const char* type) { return Operator(name, type); }
Operator OperatorFactory::CreateOperator(const string& name, const string& type) { return Operator(name, type); }
bool OperatorFactory::IsExistOp(const char*) { return true; }
bool OperatorFactory::IsExistOp(const string&) { return true; }

struct StatusFactory {
  static StatusFactory* Instance();
  std::map<uint32_t, string> texts;
};
StatusFactory* StatusFactory::Instance() {
  static auto* only = new StatusFactory;
  return only;
}

class GraphBuffer {
 public:
  GraphBuffer();
  ~GraphBuffer();

 private:
  std::shared_ptr<int> own_;
};
GraphBuffer::GraphBuffer() {}
GraphBuffer::~GraphBuffer() {}

}  // namespace ge
