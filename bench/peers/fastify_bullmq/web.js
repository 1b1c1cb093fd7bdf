// Fastify and BullMQ: verify, add the raw body to the queue, answer. Two processes, like everyone.
import cluster from "node:cluster";
import { createHmac, timingSafeEqual } from "node:crypto";
import { Queue } from "bullmq";
import fastify from "fastify";
import { JOB_OPTIONS, QUEUE, connect } from "./common.js";

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
} else {
  const secret = process.env.BENCH_SECRET;
  const queue = new Queue(QUEUE, { connection: connect(), defaultJobOptions: JOB_OPTIONS });
  const app = fastify({ bodyLimit: 256 * 1024 });
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.post("/webhooks/voucherify", async (request, reply) => {
    const wanted = createHmac("sha256", secret).update(request.body).digest();
    const given = Buffer.from(request.headers["x-voucherify-signature"] ?? "", "hex");
    if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
      return reply.code(401).send({ error: "no valid signature" });
    }
    const job = await queue.add("process", request.body.toString());
    return reply.code(202).send({ delivery: job.id });
  });
  await app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
}
