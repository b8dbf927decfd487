// Package telemetry holds the message, which is what one device said once, and the codecs of the formats in which
// devices say it.
//
// A message is decoded once, at the edge, by a codec (see Codecs). From then on it travels as the protobuf of
// schemas/proto/millrace/v1/message.proto, written and read by AppendMessage and Decoder, which are hand-made for speed and
// held against the schema by a test. No device body is parsed a second time.
//
// Start reading at Message.
package telemetry
