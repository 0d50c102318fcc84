curl --location 'http://xxxx/v1/chat/reward' \
--header 'Content-Type: application/json' \
--data '{ "model": "", "messages": [ { "role": "user", "content": [ { "type": "image_url", "image_url": { "url": "https://xxx/a.png" } } ] }, { "role": "assistant", "content": [ { "type": "text", "text": "图里有几个人" } ] } ], "user": "user-123", "chat_template": null, "chat_template_kwargs": { "custom_var": "value" }, "mm_processor_kwargs": { "image_size": 224 } }'
