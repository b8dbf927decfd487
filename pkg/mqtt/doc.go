// Package mqtt reads and writes the packets of MQTT 3.1.1 (OASIS, 2014) and MQTT 5.0 (OASIS, 2019), and has a small
// client that pipelines. It has no server: whoever listens builds one on Reader, the Parse functions and the Append
// functions.
//
// It promises three things. What the specification forbids is refused with an *Error that names the packet, what was
// expected and the reason code that MQTT 5 has for it. Memory follows the bytes that have arrived, never a length that a
// packet declares. And the way of a PUBLISH and of its acknowledgement does not allocate: a parsed packet consists of
// slices into the reader's buffer.
//
// Both versions share one set of types. Reasons are always those of MQTT 5; the encoders and parsers for 3.1.1
// translate the few codes that it has (see Reason).
//
// Start reading at Reader and Packet, then Publish. Client is for devices, load generators and tests.
package mqtt
