// Load for a gateway: meter events over keep-alive connections, one request under way on each.
//
//   java LoadGenerator.java HOST PORT PATH TOKEN EVENT_NAME EVENTS_PER_REQUEST CONNECTIONS SECONDS REQUESTS_PER_S
//
// REQUESTS_PER_S of 0 means as fast as answers come. Otherwise requests are due at fixed times, and a latency counts
// from when its request was due, not from when a connection was free for it: waiting is part of what a client sees.
// Ends when its standard input is closed: it does not outlive whoever started it.
// Writes one line of JSON. `units` is the exact sum of the values of all events that were answered with 200.

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;

public class LoadGenerator {
    static final int CUSTOMERS = 1000;

    private static void endWithParent() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                }
            } catch (IOException closed) {
                // as good as its end
            }
            Runtime.getRuntime().halt(1);
        });
        watch.setDaemon(true);
        watch.start();
    }

    public static void main(String[] arguments) throws Exception {
        endWithParent();
        String host = arguments[0];
        int port = Integer.parseInt(arguments[1]);
        Load load = new Load(arguments[2], arguments[3], arguments[4], Integer.parseInt(arguments[5]), host + ":" + port);
        int connections = Integer.parseInt(arguments[6]);
        double seconds = Double.parseDouble(arguments[7]), rate = Double.parseDouble(arguments[8]);
        AtomicLong next = new AtomicLong();
        long start = System.nanoTime() + 50_000_000L, end = start + (long) (seconds * 1e9);
        List<Client> clients = new ArrayList<>();
        for (int number = 0; number < connections; number++) {
            clients.add(new Client(load, host, port, number, next, start, end, rate));
        }
        clients.forEach(Thread::start);
        for (Client client : clients) {
            client.join();
        }
        report(clients, load, (System.nanoTime() - start) / 1e9);
    }

    static void report(List<Client> clients, Load load, double wall) {
        Map<String, Long> answers = new TreeMap<>();
        long units = 0, accepted = 0;
        int count = clients.stream().mapToInt(client -> client.taken).sum(), filled = 0;
        long[] latencies = new long[count];
        for (Client client : clients) {
            client.answers.forEach((status, times) -> answers.merge(status, times, Long::sum));
            System.arraycopy(client.latencies, 0, latencies, filled, client.taken);
            filled += client.taken;
            units += client.units;
            accepted += client.accepted;
        }
        Arrays.sort(latencies);
        StringBuilder statuses = new StringBuilder();
        answers.forEach((status, times) -> statuses.append(statuses.isEmpty() ? "" : ", ")
                .append('"').append(status).append("\": ").append(times));
        System.out.printf("{\"wall_s\": %.3f, \"requests\": %d, \"events\": %d, \"units\": %d, \"p50_ms\": %.3f, "
                + "\"p99_ms\": %.3f, \"max_ms\": %.3f, \"answers\": {%s}}%n", wall, count, accepted, units,
                at(latencies, 0.50), at(latencies, 0.99), at(latencies, 1.0), statuses);
    }

    static double at(long[] sorted, double share) {
        return sorted.length == 0 ? 0 : sorted[Math.max(0, (int) Math.ceil(share * sorted.length) - 1)] / 1e6;
    }

    /** What a request looks like. */
    record Load(String path, String token, String eventName, int events, String host) {
        byte[] head(int length) {
            return ("POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + token
                    + "\r\nContent-Type: application/json\r\nContent-Length: " + length + "\r\n\r\n")
                    .getBytes(StandardCharsets.US_ASCII);
        }

        byte[] body(String run, long request) {
            StringBuilder text = new StringBuilder(160 * events);
            if (events > 1) {
                text.append("{\"events\":[");
            }
            for (int index = 0; index < events; index++) {
                long number = request * events + index;
                text.append(index > 0 ? "," : "").append("{\"event_name\":\"").append(eventName)
                        .append("\",\"identifier\":\"").append(run).append('-').append(number)
                        .append("\",\"payload\":{\"stripe_customer_id\":\"cus_").append(number % CUSTOMERS)
                        .append("\",\"value\":\"").append(value(number)).append("\"}}");
            }
            return text.append(events > 1 ? "]}" : "").toString().getBytes(StandardCharsets.US_ASCII);
        }

        long value(long number) {
            return number % 997 + 1;
        }

        long units(long request) {
            long sum = 0;
            for (int index = 0; index < events; index++) {
                sum += value(request * events + index);
            }
            return sum;
        }
    }

    /** One connection, one request at a time. */
    static class Client extends Thread {
        static final String RUN = Long.toString(System.nanoTime(), 36);
        final Load load;
        final String host;
        final int port;
        final AtomicLong next;
        final long start, end;
        final double rate;
        final Map<String, Long> answers = new TreeMap<>();
        long[] latencies = new long[1024];
        int taken;
        long units, accepted;
        Socket socket;
        InputStream in;
        OutputStream out;
        final byte[] buffer = new byte[65536];

        Client(Load load, String host, int port, int number, AtomicLong next, long start, long end, double rate) {
            super("client-" + number);
            this.load = load;
            this.host = host;
            this.port = port;
            this.next = next;
            this.start = start;
            this.end = end;
            this.rate = rate;
        }

        @Override
        public void run() {
            await(start);
            while (true) {
                long request = next.getAndIncrement();
                long due = rate > 0 ? start + (long) (request / rate * 1e9) : System.nanoTime();
                if (due >= end) {
                    return;
                }
                await(due);
                String status;
                try {
                    status = ask(load.body(RUN, request));
                } catch (IOException error) {
                    status = error.getClass().getSimpleName();
                    hangUp();
                }
                took(System.nanoTime() - due);
                answers.merge(status, 1L, Long::sum);
                if (status.equals("200")) {
                    accepted += load.events();
                    units += load.units(request);
                }
            }
        }

        void await(long moment) {
            long left;
            while ((left = moment - System.nanoTime()) > 0) {
                try {
                    Thread.sleep(left / 1_000_000, (int) (left % 1_000_000));
                } catch (InterruptedException error) {
                    throw new IllegalStateException(error);
                }
            }
        }

        void took(long nanoseconds) {
            if (taken == latencies.length) {
                latencies = Arrays.copyOf(latencies, 2 * taken);
            }
            latencies[taken++] = nanoseconds;
        }

        String ask(byte[] body) throws IOException {
            if (socket == null) {
                socket = new Socket(host, port);
                socket.setTcpNoDelay(true);
                socket.setSoTimeout(30_000);
                in = socket.getInputStream();
                out = socket.getOutputStream();
            }
            ByteArrayOutputStream whole = new ByteArrayOutputStream(body.length + 600);
            whole.writeBytes(load.head(body.length));
            whole.writeBytes(body);
            out.write(whole.toByteArray());
            return readAnswer();
        }

        /** The status; the rest is read and forgotten. */
        String readAnswer() throws IOException {
            int filled = 0, headEnd = -1;
            String head = "";
            while (headEnd < 0) {
                int read = in.read(buffer, filled, buffer.length - filled);
                if (read < 0) {
                    throw new IOException("the gateway hung up");
                }
                filled += read;
                head = new String(buffer, 0, filled, StandardCharsets.ISO_8859_1);
                headEnd = head.indexOf("\r\n\r\n");
            }
            String fields = head.substring(0, headEnd).toLowerCase();
            int at = fields.indexOf("content-length: ");
            int lineEnd = fields.indexOf('\r', at) < 0 ? fields.length() : fields.indexOf('\r', at);
            int left = headEnd + 4 + Integer.parseInt(fields.substring(at + 16, lineEnd).trim()) - filled;
            while (left > 0) {
                int read = in.read(buffer, 0, Math.min(left, buffer.length));
                if (read < 0) {
                    throw new IOException("the gateway hung up");
                }
                left -= read;
            }
            if (fields.contains("connection: close")) {
                hangUp();
            }
            return head.substring(9, 12);
        }

        void hangUp() {
            try {
                if (socket != null) {
                    socket.close();
                }
            } catch (IOException error) {
                // It is gone either way.
            }
            socket = null;
        }
    }
}
