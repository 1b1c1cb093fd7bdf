// The workers where actions wait for a network: one signed call, one mail or one record in bulk for each event.
// Tuned after https://docs.bullmq.io/guide/workers/concurrency: several processes, a concurrency in the hundreds for
// jobs that wait; undici with as many kept connections, nodemailer with a pool of as many sessions.
// BENCH_SHAPE is `event`: one job validates and calls; or `action`: a job for the event adds a job for its action.
import cluster from "node:cluster";
import { createHmac } from "node:crypto";
import { Queue, Worker } from "bullmq";
import nodemailer from "nodemailer";
import { Pool } from "undici";
import { JOB_OPTIONS, QUEUE, connect } from "./common.js";
import { read } from "./schema.js";

const { BENCH_WORKLOAD, BENCH_SHAPE, BENCH_TARGET_PORT } = process.env;
const BULK = 100;
const RECORDS = "bench:records";
const COUNT = "bench:recorded";

if (cluster.isPrimary) {
  for (let i = 0; i < Number(process.env.BENCH_PROCESSES); i++) cluster.fork();
} else {
  const concurrency = Number(process.env.BENCH_CONNECTIONS);
  const key = Buffer.from(process.env.BENCH_ENDPOINT_SECRET, "base64");
  const redis = connect();
  const queue = new Queue(QUEUE, { connection: connect(), defaultJobOptions: JOB_OPTIONS });
  const pool = new Pool(`http://127.0.0.1:${BENCH_TARGET_PORT}`, { connections: concurrency, pipelining: 1 });
  const mailer = nodemailer.createTransport({
    host: "127.0.0.1",
    port: Number(BENCH_TARGET_PORT),
    ignoreTLS: true,
    pool: true,
    maxConnections: concurrency,
    maxMessages: Infinity,
  });

  async function post(path, body, headers) {
    const answer = await pool.request({
      path,
      method: "POST",
      body,
      headers: { "content-type": "application/json", ...headers },
    });
    await answer.body.dump();
    if (answer.statusCode !== 200) throw new Error(`the endpoint answered ${answer.statusCode}`);
  }

  async function call(event) {
    const body = JSON.stringify(event);
    const now = String(Math.floor(Date.now() / 1000));
    const signature = createHmac("sha256", key).update(`${event.id}.${now}.${body}`).digest("base64");
    await post("/hook", body, {
      "webhook-id": event.id,
      "webhook-timestamp": now,
      "webhook-signature": `v1,${signature}`,
    });
  }

  async function mail(event) {
    await mailer.sendMail({
      from: "rewards@shop.example",
      to: event.customer.email,
      subject: `Event ${event.id}`,
      text: `Hello ${event.customer.name}, welcome to ${event.tier.name}.\n`,
    });
  }

  async function collect(event) {
    const record = {
      idProperty: "voucherify_id",
      id: event.customer.id,
      properties: { event: event.id, tier: event.tier.name },
      objectWriteTraceId: event.id,
    };
    const [, [, count]] = await redis.multi().rpush(RECORDS, JSON.stringify(record)).incr(COUNT).exec();
    if (count % BULK === 0) await queue.add("flush", {});
  }

  async function flush() {
    const records = (await redis.lpop(RECORDS, BULK)) ?? [];
    await post("/records", `{"inputs":[${records.join(",")}]}`, { authorization: "Bearer bench" });
  }

  const perform = BENCH_WORKLOAD === "smtp" ? mail : call;

  async function process_(body) {
    const event = read(body);
    if (BENCH_WORKLOAD === "crm") await collect(event);
    else if (BENCH_SHAPE === "action") await queue.add("act", event);
    else await perform(event);
  }

  new Worker(
    QUEUE,
    (job) => (job.name === "act" ? perform(job.data) : job.name === "flush" ? flush() : process_(job.data)),
    { connection: connect(), concurrency },
  );
}
