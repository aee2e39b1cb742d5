"""Makes a clip with the official OpenAI client against `kinora serve`: python client.py [ADDRESS] [TOKEN]

pip install openai==3.57.0
"""

import sys

from openai import BadRequestError, OpenAI

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8321"
client = OpenAI(base_url=f"{address}/v1", api_key=sys.argv[2] if len(sys.argv) > 2 else "none")

model = client.models.list().data[0].id
video = client.videos.create_and_poll(
    prompt="a fox nodding", seconds="1", model=model, poll_interval_ms=200, extra_body={"seed": 7}
)
if video.status != "completed":
    sys.exit(f"it is {video.status}: {video.error}")
client.videos.download_content(video.id).write_to_file("fox.mp4")
print(f"{video.id}: {video.size}, {video.seconds} s, in fox.mp4")

try:
    client.videos.create(prompt="a fox", model=model, size="33x33")
    sys.exit("a size that the model cannot make was taken")
except BadRequestError as error:
    print(f"refused as it should be: {error.body['message']}")

assert video.id in [one.id for one in client.videos.list(limit=10)], "it is listed"
assert client.videos.delete(video.id).deleted, "it is deleted"
