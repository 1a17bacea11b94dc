// A gRPC peer for the conformance tests of src/builder/rpc: grpc-go as the other end of our own core. Messages are raw bytes, so no
// generated code is needed. `peer serve unix:///path` answers, `peer call unix:///path scenario` calls and prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"net"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const maxMessage = 16 << 20

// rawCodec moves byte slices as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) {
	return *(v.(*[]byte)), nil
}
func (rawCodec) Unmarshal(data []byte, v any) error {
	*(v.(*[]byte)) = append([]byte(nil), data...)
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: peer serve ADDRESS | peer call ADDRESS SCENARIO")
		os.Exit(2)
	}
	var err error
	if os.Args[1] == "serve" {
		err = serve(os.Args[2])
	} else {
		err = call(os.Args[2], os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ---- server

func serve(address string) error {
	listener, err := net.Listen("unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}),
		grpc.UnknownServiceHandler(handle),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
	)
	go func() { // stdin closes when the test is over; a line asks for a graceful stop
		line := make([]byte, 1)
		if n, _ := os.Stdin.Read(line); n > 0 {
			server.GracefulStop()
		} else {
			server.Stop()
		}
	}()
	fmt.Println("ready")
	return server.Serve(listener)
}

func handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	name := method[strings.LastIndex(method, "/")+1:]
	recv := func() ([]byte, error) {
		var message []byte
		err := stream.RecvMsg(&message)
		return message, err
	}
	send := func(message []byte) error { return stream.SendMsg(&message) }
	switch name {
	case "Echo": // unary
		message, err := recv()
		if err != nil {
			return err
		}
		return send(message)
	case "Count": // server stream: as many messages as the request says, of the size it says
		message, err := recv()
		if err != nil {
			return err
		}
		var count, size int
		if _, err := fmt.Sscanf(string(message), "%d %d", &count, &size); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		data := make([]byte, size)
		for range count {
			if err := send(data); err != nil {
				return err
			}
		}
		return nil
	case "Sum": // client stream: answers the number of bytes once the client has half-closed
		total := 0
		for {
			message, err := recv()
			if errors.Is(err, io.EOF) {
				return send([]byte(strconv.Itoa(total)))
			}
			if err != nil {
				return err
			}
			total += len(message)
		}
	case "Bidi": // every message back; a trailer at the end
		stream.SetTrailer(metadata.Pairs("x-end", "yes"))
		for {
			message, err := recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := send(message); err != nil {
				return err
			}
		}
	case "Fail": // a status with unicode and a detail, after one message when asked
		message, err := recv()
		if err != nil {
			return err
		}
		if string(message) == "late" {
			if err := send([]byte("before")); err != nil {
				return err
			}
		}
		failure, err := status.New(codes.NotFound, "no such käse: 100% ☕").WithDetails(&errdetails.RetryInfo{})
		if err != nil {
			return err
		}
		return failure.Err()
	case "Wait": // until the client gives up; says on stdout why
		_ = stream.SendHeader(nil)
		<-stream.Context().Done()
		fmt.Println("gone", stream.Context().Err())
		return stream.Context().Err()
	case "Early": // answers without reading what the client streams
		return status.Error(codes.FailedPrecondition, "enough")
	case "Headers": // which values a repeated header arrived with
		md, _ := metadata.FromIncomingContext(stream.Context())
		answer, _ := json.Marshal(md.Get("x-many"))
		_ = stream.SendHeader(metadata.Pairs("x-many", "1", "x-many", "2,3"))
		return send(answer)
	}
	return status.Errorf(codes.Unimplemented, "no %s here", name)
}

// ---- client

type outcome map[string]any

func call(address string, args []string) error {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(64<<20)),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	result, err := scenario(conn, args)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func scenario(conn *grpc.ClientConn, args []string) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	invoke := func(ctx context.Context, method string, request []byte, options ...grpc.CallOption) ([]byte, error) {
		var response []byte
		err := conn.Invoke(ctx, "/test.Peer/"+method, &request, &response, options...)
		return response, err
	}
	open := func(ctx context.Context, method string) (grpc.ClientStream, error) {
		return conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Peer/"+method)
	}
	switch args[0] {
	case "echo": // size [gzip]
		size, _ := strconv.Atoi(args[1])
		var options []grpc.CallOption
		if len(args) > 2 {
			options = append(options, grpc.UseCompressor("gzip"))
		}
		response, err := invoke(ctx, "Echo", make([]byte, size), options...)
		return withStatus(outcome{"bytes": len(response)}, err), nil
	case "unary": // method
		response, err := invoke(ctx, args[1], []byte("x"))
		return withStatus(outcome{"text": string(response)}, err), nil
	case "deadline":
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err := invoke(short, "Wait", nil)
		return withStatus(outcome{}, err), nil
	case "cancel": // after the first message
		cancellable, cancel := context.WithCancel(ctx)
		stream, err := open(cancellable, "Wait")
		if err != nil {
			return nil, err
		}
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return nil, err
		}
		cancel()
		return withStatus(outcome{}, stream.RecvMsg(&message)), nil
	case "bidi": // count size: sends all while receiving all, then half-closes
		count, _ := strconv.Atoi(args[1])
		size, _ := strconv.Atoi(args[2])
		stream, err := open(ctx, "Bidi")
		if err != nil {
			return nil, err
		}
		go func() {
			message := make([]byte, size)
			for range count {
				if stream.SendMsg(&message) != nil {
					return
				}
			}
			_ = stream.CloseSend()
		}()
		received := 0
		for {
			var message []byte
			if err := stream.RecvMsg(&message); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return withStatus(outcome{"bytes": received, "trailer": stream.Trailer().Get("x-end")}, err), nil
			}
			received += len(message)
		}
	case "early": // keeps sending until the server's early answer is seen
		stream, err := open(ctx, "Early")
		if err != nil {
			return nil, err
		}
		message := make([]byte, 64<<10)
		for err == nil {
			err = stream.SendMsg(&message)
		}
		return withStatus(outcome{}, stream.RecvMsg(&message)), nil
	case "resets": // count: opens a stream and cancels it, again and again, on one connection
		count, _ := strconv.Atoi(args[1])
		var group sync.WaitGroup
		lanes := runtime.NumCPU() * 4
		for range lanes {
			group.Add(1)
			go func() {
				defer group.Done()
				for range count / lanes {
					cancellable, cancel := context.WithCancel(ctx)
					stream, err := open(cancellable, "Wait")
					if err == nil {
						var message []byte
						_ = stream.RecvMsg(&message)
					}
					cancel()
				}
			}()
		}
		group.Wait()
		response, err := invoke(ctx, "Echo", []byte("still here"))
		return withStatus(outcome{"text": string(response)}, err), nil
	case "headers":
		many := metadata.AppendToOutgoingContext(ctx, "x-many", "1", "x-many", "2,3")
		response, err := invoke(many, "Headers", nil)
		return withStatus(outcome{"text": string(response)}, err), nil
	case "bench": // count size lanes: unary calls per second
		return bench(ctx, invoke, args[1:])
	case "stream": // count size: messages per second of a server stream
		return benchStream(ctx, open, args[1:])
	}
	return nil, fmt.Errorf("no scenario %q", args[0])
}

func bench(ctx context.Context, invoke func(context.Context, string, []byte, ...grpc.CallOption) ([]byte, error), args []string) (outcome, error) {
	count, _ := strconv.Atoi(args[0])
	size, _ := strconv.Atoi(args[1])
	lanes, _ := strconv.Atoi(args[2])
	request := make([]byte, size)
	if _, err := invoke(ctx, "Echo", request); err != nil {
		return nil, err
	}
	started := time.Now()
	failures := make(chan error, lanes)
	for range lanes {
		go func() {
			var err error
			for i := 0; i < count/lanes && err == nil; i++ {
				_, err = invoke(ctx, "Echo", request)
			}
			failures <- err
		}()
	}
	for range lanes {
		if err := <-failures; err != nil {
			return nil, err
		}
	}
	return rate(count, size, started), nil
}

func benchStream(ctx context.Context, open func(context.Context, string) (grpc.ClientStream, error), args []string) (outcome, error) {
	count, _ := strconv.Atoi(args[0])
	size, _ := strconv.Atoi(args[1])
	stream, err := open(ctx, "Count")
	if err != nil {
		return nil, err
	}
	started := time.Now()
	request := []byte(fmt.Sprintf("%d %d", count, size))
	if err := stream.SendMsg(&request); err != nil {
		return nil, err
	}
	_ = stream.CloseSend()
	received := 0
	for {
		var message []byte
		if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		received++
	}
	return rate(received, size, started), nil
}

func rate(count, size int, started time.Time) outcome {
	seconds := time.Since(started).Seconds()
	return outcome{"perSecond": int(float64(count) / seconds), "mbPerSecond": int(float64(count) * float64(size) / 1e6 / seconds)}
}

func withStatus(result outcome, err error) outcome {
	answer := status.Convert(err)
	result["code"] = int(answer.Code())
	result["message"] = answer.Message()
	result["details"] = len(answer.Details())
	return result
}
